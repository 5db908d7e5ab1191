"""The docker backend: a host is a container that owns namespaces, a process one that joins them."""

from __future__ import annotations

import contextlib
import os
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from errno import ENOSYS, EPERM
from typing import TYPE_CHECKING

from labs.engine.backend import PublicationRefused
from labs.engine.backends.agents import AgentBackend, HasDied, Peer, check_fork
from labs.engine.backends.docker.cleaning import AT_ONCE
from labs.engine.backends.docker.client import (
    START_ENGINE,
    engine_is_there,
    find_kernel,
    is_local,
)
from labs.engine.backends.docker.container import Container, ContainerChannel
from labs.engine.backends.docker.images import find_base
from labs.engine.backends.docker.making import LOOPBACK, Maker
from labs.engine.backends.docker.relay import FIRST, RELAY
from labs.engine.backends.docker.watchdog import watched_run
from labs.engine.errors import BindlabError, CannotRun, EngineError, LabError, Unsupported
from labs.engine.model import Observation
from labs.engine.plans import Needs, OpenedHost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from labs.engine.agent import Message
    from labs.engine.backends.docker.client import APIClient
    from labs.engine.plans import HostPlan, ProcessPlan, StartedProcess

DEADLINE = 15.0  # seconds: for an answer that should take milliseconds
ALLOW_OBSERVING = (
    "The engine's seccomp profile has to allow pidfd_getfd() where there is CAP_SYS_PTRACE, as "
    "Docker's own does (dockerd --seccomp-profile); and the kernel has to have it (since 5.6)."
)


class DockerBackend(AgentBackend):
    """Hosts and processes as containers of one engine."""

    name = "docker"

    def __init__(self, client: APIClient, maker: Maker, deadline: float) -> None:
        super().__init__(deadline)
        self.kernel = find_kernel(client)
        self._client = client
        self._maker = maker
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._network: Future[str] | None = None
        self._published: Future[str] | None = None
        self._opening: dict[str, Future[Container]] = {}
        self._starting: dict[ProcessPlan, Future[Container]] = {}
        self._containers: dict[str, Container] = {}  # by process
        self._relays: dict[str, set[int]] = {}  # by host: pids
        self._apart: dict[str, Peer] = {}  # by process in another user namespace: its relay
        self._engines: dict[str, set[int]] = {}  # by host: inodes of the engine's sockets

    def prepare(self, needs: Needs) -> None:
        """Begin to start what will probably be asked for, several containers at a time."""
        for host in needs.hosts:
            self._open(host)
        for process in needs.processes:
            self._starting[process] = self._submit(process)

    def open_host(self, plan: HostPlan) -> OpenedHost:
        """See `Backend.open_host`."""
        if plan.publication and plan.publication.held and not is_local(self._client):
            raise Unsupported("The Docker engine is on another machine, whose ports are not ours.")
        with held_port(plan) as resolved:
            opening = self._opening.get(plan.name) or self._open(resolved)
            try:
                container = opening.result()
            except (BindlabError, PublicationRefused):
                del self._opening[plan.name]  # it may be asked for again, in another way
                raise
        host = self._hosts[plan.name] = self._make_peer(
            f"The host {plan.name}", container, fault=EngineError
        )
        host.receive()
        # The engine answers names on its networks: its own sockets are in the namespace from the
        # start (127.0.0.11).
        self._engines[plan.name] = {row.inode for row in super().observe(plan.name).sockets}
        self._relays[plan.name] = set()
        if plan.publication is None:
            return OpenedHost()
        return OpenedHost(self._maker.find_machine_port(container, plan.publication))

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        """See `Backend.start_process`; Unsupported for a sandbox."""
        if plan.sandbox:
            raise Unsupported("Strange programs run in no container.")
        self._host(plan.host)
        container = (self._starting.pop(plan, None) or self._submit(plan)).result()
        self._containers[plan.name] = container
        self._relays[plan.host].add(container.relay_pid)
        if plan.outer_uid is not None:
            relay = self._make_peer(f"The relay of {plan.name}", container, RELAY)
            self._apart[plan.name] = relay
        return self._add_process(plan.name, plan.host, container, FIRST)

    def fork_process(self, parent: str, child: str) -> StartedProcess:
        """See `Backend.fork_process`."""
        member = self._member(parent)
        container = self._containers[parent]
        number = container.new_number()
        check_fork(member.peer, member.peer.ask({"calls": [["fork", []]]}, [number]))
        if parent in self._apart:
            self._apart[child] = self._apart[parent]
        self._containers[child] = container
        return self._add_process(child, member.host, container, number)

    def end_process(self, process: str, signal: int) -> None:
        """See `Backend.end_process`; with the last process of a container its stream is closed."""
        super().end_process(process, signal)
        container = self._containers.pop(process)
        if container not in self._containers.values():
            container.close()

    def observe(self, host: str) -> Observation:
        """See `Backend.observe`; of what was asked for alone.

        Without relays, what was started ahead, and the engine's own sockets.
        """
        self._host(host)
        hidden = self._relays[host] | self._find_unasked(host)
        seen = super().observe(host)
        engines = self._engines[host]
        return Observation(
            tuple(row for row in seen.sockets if row.inode not in engines),
            tuple(row for row in seen.processes if row.pid not in hidden),
        )

    def enter_command(self, host: str) -> str:
        """See `Backend.enter_command`."""
        return f"docker exec --interactive --tty {self._opening[host].result().name} bash"

    def close(self) -> None:
        """End all containers; what the engine keeps of them is the watchdog's to remove."""
        self._pool.shutdown(cancel_futures=True)
        started = [*self._opening.values(), *self._starting.values()]
        for container in {*collect(started), *self._containers.values()}:
            container.close()

    def _find_unasked(self, host: str) -> set[int]:
        """The pids of what was started ahead on a host, and that nobody has asked for yet.

        What is about to join is waited for. Until it is confined as its host is, the host may not
        look into it everywhere (AppArmor).
        """
        futures = [future for plan, future in self._starting.items() if plan.host == host]
        return {pid for one in collect(futures) for pid in (one.relay_pid, one.agent_pid)}

    def _end(self, process: str, request: Message) -> bool:
        """See `AgentBackend._end`; who is apart can be signalled by its relay alone."""
        if process not in self._apart:
            return super()._end(process, request)
        try:
            return bool(self._apart[process].ask(request)["ended"])
        except HasDied:
            return True  # a relay ends with the last process of its container

    def _open(self, plan: HostPlan) -> Future[Container]:
        """Begin to start a host; all are on the network that the first of them needs."""
        if self._network is None:
            self._network = self._pool.submit(self._maker.make_network, plan)
        network = self._network

        if plan.publication and self._published is None:
            self._published = self._pool.submit(self._maker.make_published_network)
        published = self._published if plan.publication else None

        def make() -> Container:
            second = published.result() if published else ""
            return self._maker.make_host(plan, network.result(), second)

        self._opening[plan.name] = self._pool.submit(make)
        return self._opening[plan.name]

    def _submit(self, plan: ProcessPlan) -> Future[Container]:
        """Begin to start a process; its host comes before it in the queue of the pool."""
        host = self._opening[plan.host]
        return self._pool.submit(lambda: self._maker.make_process(plan, host.result()))

    def _add_process(
        self, name: str, host: str, container: Container, number: int
    ) -> StartedProcess:
        return self._greet(name, host, self._make_peer(f"The process {name}", container, number))

    def _make_peer(
        self,
        what: str,
        container: Container,
        number: int = FIRST,
        fault: type[BindlabError] = LabError,
    ) -> Peer:
        channel = ContainerChannel(container, self._explain_end, number)
        return Peer(what, channel, self._deadline, explain, fault)

    def _explain_end(self, container: Container) -> None:
        """Say why a container has ended, if it is neither its process nor the lab that ended it."""
        if not engine_is_there(self._client):
            raise EngineError("The Docker engine has stopped.", START_ENGINE)
        if container.errors:
            last = container.errors.strip().splitlines()[-1]
            raise EngineError(f"The container {container.name} has failed: {last}")


def collect(futures: Iterable[Future[Container]]) -> list[Container]:
    """The containers that were started, of all that were to be; waits for them."""
    return [
        future.result()
        for future in futures
        if not future.cancelled() and future.exception() is None
    ]


def explain(doing: str, number: int) -> BindlabError:
    """The error for something that a container could not do."""
    message = f"A container could not {doing}: {os.strerror(number)}."
    if doing == "observe" and number in (EPERM, ENOSYS):
        return CannotRun(message, ALLOW_OBSERVING)
    return EngineError(message)


@contextlib.contextmanager
def held_port(plan: HostPlan) -> Iterator[HostPlan]:
    """The plan with a number for its machine's port, on which this process listens if it is held.

    Loopback alone, as any program of the machine might.
    """
    publication = plan.publication
    if publication is None or not publication.held:
        yield plan
        return
    with socket.create_server((LOOPBACK, publication.machine_port)) as listener:
        number = listener.getsockname()[1]
        yield replace(plan, publication=replace(publication, machine_port=number))


@contextlib.contextmanager
def open_docker(needs: Needs | None = None, deadline: float = DEADLINE) -> Iterator[DockerBackend]:
    """A backend on the engine of DOCKER_HOST or the current context; `needs` are started ahead.

    Whatever happens, its containers and networks end with the block, or with this process. Raises
    CannotRun where there is no engine or no image, EngineError where something is left.
    """
    with watched_run() as (client, labels, watchdog):
        maker = Maker(client, labels, find_base(client), watchdog, deadline)
        backend = DockerBackend(client, maker, deadline)
        try:
            backend.prepare(needs or Needs())
            yield backend
        finally:
            backend.close()
