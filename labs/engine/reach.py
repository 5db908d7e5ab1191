"""Tries hosts out: a process on each, which listens, and to which that of another host connects."""

from collections.abc import Sequence

from labs.engine.backend import Backend
from labs.engine.errors import EngineError
from labs.engine.model import Call, Reference
from labs.engine.plans import HostPlan, ProcessPlan
from labs.engine.remote import stream_socket


def start_processes(backend: Backend, plans: Sequence[HostPlan], uid: int) -> None:
    """Start a process on each host, under the host's name."""
    for plan in plans:
        backend.start_process(ProcessPlan(plan.name, plan.name, uid))


def reach_each(backend: Backend, plans: Sequence[HostPlan], port: int) -> int:
    """Let the process of each host listen, and that of the host before connect; how many could."""
    for plan in plans:
        bind = Call("bind", (Reference(0), (plan.ipv4, port)))
        new = Call("socket", stream_socket(plan.ipv4))
        results = backend.perform(plan.name, [new, bind, Call("listen", (Reference(0), 1))])
        if results[-1].errno:
            raise EngineError(f"{plan.name} cannot listen: {results[-1].errno_name}.")
    reached = 0
    for index, plan in enumerate(plans):
        connect = Call("connect", (Reference(0), (plan.ipv4, port)))
        new = Call("socket", stream_socket(plan.ipv4))
        results = backend.perform(plans[index - 1].name, [new, connect])
        reached += results[-1].errno == 0
    return reached
