"""A run in progress: carries a script's wishes to the backend and tells the views what happened."""

import os
from collections.abc import Callable, Sequence
from signal import Signals

from labs.engine.backend import Backend
from labs.engine.errors import LabError
from labs.engine.evidence import gather
from labs.engine.layout import Layout
from labs.engine.model import (
    Call,
    CallMade,
    CallResult,
    Credentials,
    Event,
    HostOpened,
    HostPlan,
    Outcome,
    ProcessPlan,
    ProcessStarted,
    SocketRow,
    StartedProcess,
    StepEnded,
    StepStarted,
    Verdict,
)
from labs.engine.strace import show_call, show_result


class CallError(OSError):
    """The kernel refused a call of a lab's process.

    `call` is the call's name, `results` what the calls before it returned.
    """

    def __init__(self, call: str, results: Sequence[CallResult]) -> None:
        number = results[-1].errno
        super().__init__(number, os.strerror(number))
        self.call = call
        self.results = results[:-1]


class Session:
    """What one run has: its hosts, its processes and the step that is open."""

    def __init__(self, backend: Backend, layout: Layout, emit: Callable[[Event], None]) -> None:
        self.layout = layout
        self.verdicts: list[Verdict] = []
        self.calls_made = 0  # by the open step
        self.refusal: CallError | None = None  # the last of the open step
        self._backend = backend
        self._emit = emit
        self._names: dict[str, dict[int, str]] = {}
        self._hosts: dict[str, str] = {}
        self._credentials: dict[str, Credentials] = {}
        self._step: StepStarted | None = None
        self._touched: list[str] = []

    # --- hosts and processes ---

    def open_host(self, name: str) -> HostPlan:
        """Open the host of this name."""
        plan = self.layout.host(name)
        self._backend.open_host(plan)
        self._names[name] = {}
        self._emit(HostOpened(name, plan.ipv4, plan.ipv6, self._backend.enter_command(name)))
        return plan

    def start_process(self, name: str, host: str, user: str) -> None:
        """Start a process under a user's uid."""
        self._check_new(name)
        started = self._backend.start_process(ProcessPlan(name, host, self.layout.uid(user)))
        self._keep(name, host, started, parent="")

    def fork_process(self, parent: str, child: str) -> None:
        """Let a process fork."""
        host = self._touch(parent)
        self._check_new(child)
        started = self._backend.fork_process(parent, child)
        self._show(parent, "fork()", CallResult(started.pid, 0, started.credentials))
        self._keep(child, host, started, parent)

    def end_process(self, process: str, signal: int) -> None:
        """Send a signal from outside (0: none) and wait until the process is gone."""
        killed = f"+++ killed by {Signals(signal).name} +++" if signal else ""
        self._touch(process)
        self._backend.end_process(process, signal)
        if killed:
            self._emit_call(process, killed)

    def perform(self, process: str, calls: Sequence[Call]) -> Sequence[CallResult]:
        """Let a process make calls, show them, and raise CallError for one that is refused."""
        self._touch(process)
        results = self._backend.perform(process, calls) or [self._executed(process)]
        values = [result.value for result in results]
        for call, result in zip(calls, results, strict=False):
            self._show(process, show_call(call, values), result)
        if results[-1].errno:
            self.refusal = CallError(calls[len(results) - 1].name, results)
            raise self.refusal
        return results

    def sockets(self, host: str) -> Sequence[SocketRow]:
        """What sock_diag says of a host, now."""
        return self._backend.observe(host).sockets

    # --- steps ---

    def begin_step(self, step: StepStarted) -> None:
        """From here on calls belong to this step."""
        if self._step is not None:
            raise LabError("A step inside a step.")
        self._step = step
        self._touched = []
        self.calls_made = 0
        self.refusal = None
        self._emit(step)

    @property
    def step_number(self) -> int:
        """The number of the next step, from 1."""
        return len(self.verdicts) + 1

    def end_step(self, outcome: Outcome, verdict: Verdict) -> None:
        """Gather the evidence of the open step, and close it."""
        assert self._step is not None
        step, self._step = self._step, None
        self.verdicts.append(verdict)
        hosts = [] if verdict is Verdict.FAILED else self._touched
        evidence = tuple(
            gather(host, self._backend.observe(host), self._names[host], self.layout.user)
            for host in hosts
        )
        self._emit(StepEnded(step.number, outcome, verdict, evidence))

    # --- the parts ---

    def _touch(self, process: str) -> str:
        """The process's host, whose evidence the open step will show."""
        if self._step is None:
            raise LabError("A call outside of a step: only a step says what is expected of it.")
        host = self._hosts[process]
        if host not in self._touched:
            self._touched.append(host)
        return host

    def _executed(self, process: str) -> CallResult:
        """What an exec that succeeded would have returned, had it returned."""
        return CallResult(0, 0, self._credentials[process])

    def _check_new(self, name: str) -> None:
        if name in self._hosts:
            raise LabError(f"There are two processes named {name}.")

    def _keep(self, name: str, host: str, started: StartedProcess, parent: str) -> None:
        self._hosts[name] = host
        self._credentials[name] = started.credentials
        self._names[host][started.pid] = name
        user = self.layout.user(started.credentials.effective)
        self._emit(ProcessStarted(name, host, user, started.pid, started.credentials, parent))

    def _show(self, process: str, call: str, result: CallResult) -> None:
        self._credentials[process] = result.credentials
        self._emit_call(process, call, show_result(result), result.errno_name)

    def _emit_call(self, process: str, call: str, result: str = "", errno: str = "") -> None:
        self.calls_made += 1
        uid = self._credentials[process].effective
        self._emit(CallMade(process, uid, call, result, errno))
