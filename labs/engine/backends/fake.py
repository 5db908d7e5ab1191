"""The fake backend: hosts and processes in memory, for plans and for tests of the engine.

It follows a kernel as far as the contract of backends asks (`tests/contract.py`), and no answer of
it says anything about Linux. What it leaves out besides what `fake_kernel` names: it cannot wait,
so that a call that would wait is a process that hangs; every program that exec() names exists, and
runs until it is ended; groups are not looked at; of capabilities it asks for those over uids, over
the owner of a file and over low ports.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING

from labs.engine.backends.fake_capabilities import Capabilities
from labs.engine.backends.fake_kernel import (
    FakeHost,
    Hangs,
)
from labs.engine.backends.fake_process import UIDS, FakeProcess
from labs.engine.capabilities import capability_mask
from labs.engine.errors import CannotRun, EngineError, LabError, Unsupported
from labs.engine.model import CallResult, Credentials, Observation, Reference
from labs.engine.plans import OpenedHost, StartedProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.model import Call, Value
    from labs.engine.plans import HostPlan, ProcessPlan


class FakeBackend:
    """A backend without a kernel; all of its methods answer at once."""

    name = "fake"

    def __init__(self) -> None:
        self.kernel = os.uname().release  # a plan's, which is for this machine
        self._hosts: dict[str, FakeHost] = {}
        self._processes: dict[str, FakeProcess] = {}
        self._inodes = count(1)

    def open_host(self, plan: HostPlan) -> OpenedHost:
        """See `Backend.open_host`; Unsupported for a publication."""
        if plan.publication:
            raise Unsupported("The fake backend publishes no ports: there is nothing to reach.")
        addresses = [ip_address(plan.ipv4), ip_address(plan.ipv6)]
        self._hosts[plan.name] = FakeHost(
            addresses,
            plan.unprivileged_port_start,
            plan.tcp_migrate_req,
            self._hosts,
            self._inodes,
        )
        return OpenedHost()

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        """See `Backend.start_process`; Unsupported for a sandbox."""
        if plan.sandbox:
            raise Unsupported("A fake runs no strange programs.")
        outer_uid = plan.uid if plan.outer_uid is None else plan.outer_uid
        if outer_uid not in UIDS:
            raise CannotRun(f"Could not take uid {outer_uid}: Invalid argument.")
        uids = Credentials(plan.uid, plan.uid, plan.uid, plan.uid)
        mask = capability_mask(plan.capabilities)
        capabilities = Capabilities(mask, mask, mask, ambient=mask if plan.uid else 0)
        process = FakeProcess(self._host(plan.host), uids, capabilities, plan.outer_uid)
        return self._keep(plan.name, process)

    def fork_process(self, parent: str, child: str) -> StartedProcess:
        """See `Backend.fork_process`."""
        return self._keep(child, self._driven(parent).fork())

    def perform(
        self, process: str, calls: Sequence[Call], *, go_on: bool = False
    ) -> Sequence[CallResult]:
        """See `Backend.perform`."""
        driven = self._driven(process)
        results: list[CallResult] = []
        values: list[Value] = []
        for call in calls:
            result = perform_one(process, driven, call, values)
            results.append(result)
            values.append(result.value)
            if driven.has_executed:
                if len(results) == len(calls):
                    return ()
                raise EngineError(f"The process {process} has died.")
            if result.errno and not go_on:
                break
        if driven.has_exited:
            driven.end()
        return results

    def end_process(self, process: str, signal: int) -> None:  # noqa: ARG002  # each one ends it
        """See `Backend.end_process`."""
        self._find(process).end()
        del self._processes[process]

    def observe(self, host: str) -> Observation:
        """See `Backend.observe`."""
        found = self._host(host)
        processes = [process for process in self._processes.values() if process.host is found]
        ordered = sorted(found.sockets, key=lambda entry: (entry.kind, entry.family))
        return Observation(
            tuple(entry.row() for entry in ordered),
            tuple(process.row() for process in processes if not process.has_exited),
        )

    def enter_command(self, host: str) -> str:
        """See `Backend.enter_command`."""
        self._host(host)
        return ""

    def close(self) -> None:
        """See `Backend.close`."""
        self._processes.clear()
        self._hosts.clear()

    def _keep(self, name: str, process: FakeProcess) -> StartedProcess:
        self._processes[name] = process
        return StartedProcess(process.pid, process.credentials)

    def _host(self, name: str) -> FakeHost:
        if name not in self._hosts:
            raise EngineError(f"There is no host {name}.")
        return self._hosts[name]

    def _find(self, name: str) -> FakeProcess:
        if name not in self._processes:
            raise EngineError(f"There is no process {name}.")
        return self._processes[name]

    def _driven(self, name: str) -> FakeProcess:
        found = self._find(name)
        if found.has_executed or found.has_exited:
            raise EngineError(f"The process {name} has died.")
        return found


def perform_one(name: str, driven: FakeProcess, call: Call, values: Sequence[Value]) -> CallResult:
    """What one call of a batch answers; `values` are those of the calls before it."""
    value, number = None, 0
    try:
        arguments = [
            values[argument.index] if isinstance(argument, Reference) else argument
            for argument in call.arguments
        ]
        value = driven.make(call.name, arguments)
    except OSError as error:
        number = error.errno or 0
    except Hangs as reason:
        raise EngineError(f"The process {name} hangs: {reason}.") from None
    except (LookupError, TypeError, ValueError) as error:
        raise LabError(f"{name}: {call}: {type(error).__name__}: {error}") from error
    return CallResult(value, number, driven.credentials)
