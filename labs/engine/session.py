"""A run in progress: carries a script's wishes to the backend and tells the views what happened."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from signal import Signals
from typing import TYPE_CHECKING

from labs.engine.backend import Backend, PublicationRefused
from labs.engine.capabilities import capability_mask
from labs.engine.decision import Decision
from labs.engine.errors import LabError
from labs.engine.evidence import gather
from labs.engine.layout import Layout
from labs.engine.model import (
    ENGINE,
    Advised,
    Call,
    CallMade,
    CallResult,
    Concluded,
    Credentials,
    Event,
    Failed,
    Finding,
    HostOpened,
    Measured,
    Observation,
    Outcome,
    ProcessStarted,
    StepEnded,
    StepStarted,
    Succeeded,
    Value,
    Verdict,
    name_errno,
)
from labs.engine.plans import HostPlan, OpenedHost, ProcessPlan, Publication, StartedProcess
from labs.engine.strace import show_call, show_publication, show_result, show_words
from labs.engine.translation import Translation

if TYPE_CHECKING:
    from labs.engine.following.follower import Follower
    from labs.engine.translation import Say

AS_IT_IS = Translation().text

# A lower end of ip_local_port_range may not be below it (ipv4_privileged_ports()).
PORT_STARTS = range(32_769)
PORTS = range(1, 65_536)
NOBODY = Credentials(0, 0, 0, 0)  # of the container engine, which is none of the run's users


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

    def __init__(
        self,
        backend: Backend,
        layout: Layout,
        emit: Callable[[Event], None],
        follower: "Follower | None" = None,
        say: "Say" = AS_IT_IS,
    ) -> None:
        """A run on a backend; a `follower` says which rules decide, `say` says it in words."""
        self.layout = layout
        self.verdicts: list[Verdict] = []
        self.calls_made = 0  # by the open step
        self.refusal: CallError | None = None  # the last of the open step
        self._backend = backend
        self._emit = emit
        self._follower = follower
        self._say = say
        self._names: dict[str, dict[int, str]] = {}
        self._outer: dict[str, str] = {}  # the user of processes in a user namespace of theirs
        self._hosts: dict[str, str] = {}
        self._credentials: dict[str, Credentials] = {}
        self._step: StepStarted | None = None
        self._has_concluded = False
        self._touched: list[str] = []
        self._begun = time.monotonic_ns()

    # --- hosts and processes ---

    def open_host(
        self,
        name: str,
        unprivileged_port_start: int,
        publication: Publication | None,
        *,
        tcp_migrate_req: bool,
    ) -> tuple[HostPlan, OpenedHost]:
        """Open the host of this name; CallError where its port cannot be published."""
        check_ports(unprivileged_port_start, publication)
        if publication:
            self._check_step()
        plan = replace(
            self.layout.host(name),
            unprivileged_port_start=unprivileged_port_start,
            publication=publication,
            tcp_migrate_req=tcp_migrate_req,
        )
        opened = self._publish(plan, publication) if publication else self._backend.open_host(plan)
        self._names[name] = {}
        if self._follower:
            self._follower.open_host(plan)
        if publication:
            self._touched.append(name)
        self._emit(HostOpened(name, plan.ipv4, plan.ipv6, self._backend.enter_command(name)))
        return plan, opened

    def start_process(
        self,
        name: str,
        host: str,
        user: str,
        capabilities: Sequence[str],
        outer: str,
        program: str,
        *,
        sandbox: bool = False,
    ) -> int:
        """Start a process under a uid, which is `outer`'s outside if one is named; its pid."""
        self._check_new(name)
        try:
            capability_mask(capabilities)
        except ValueError as error:
            raise LabError(str(error)) from None
        uid, outer_uid = self.layout.uid(user), None
        if outer:
            self._outer[name] = outer
            outer_uid = self.layout.uid(outer)
        plan = ProcessPlan(name, host, uid, tuple(capabilities), outer_uid, program, sandbox)
        started = self._backend.start_process(plan)
        if self._follower:
            self._follower.start(plan, started)
        return self._keep(name, host, started, parent="")

    def fork_process(self, parent: str, child: str) -> int:
        """Let a process fork; the child's pid."""
        host = self._touch(parent)
        self._check_new(child)
        started = self._backend.fork_process(parent, child)
        if self._follower:
            self._follower.fork(parent, child, started)
        self._show(parent, "fork()", CallResult(started.pid, 0, started.credentials))
        if parent in self._outer:
            self._outer[child] = self._outer[parent]
        return self._keep(child, host, started, parent)

    def end_process(self, process: str, signal: int) -> None:
        """Send a signal from outside (0: none) and wait until the process is gone."""
        killed = f"+++ killed by {Signals(signal).name} +++" if signal else ""
        self._touch(process)
        self._backend.end_process(process, signal)
        if self._follower:
            self._follower.end(process)
        if killed:
            self._emit_call(process, killed)

    def perform(self, process: str, calls: Sequence[Call]) -> Sequence[CallResult]:
        """Let a process make calls, show them, and raise CallError for one that is refused."""
        self._touch(process)
        results = self._make(process, calls) or [self._executed(process)]
        values = [result.value for result in results]
        for call, result in zip(calls, results, strict=False):
            self._show(process, show_call(call, values), result)
        if results[-1].errno:
            self.refusal = CallError(calls[len(results) - 1].name, results)
            raise self.refusal
        return results

    def start_program(
        self, starter: str, name: str, call: Call, shown: str, credentials: Credentials
    ) -> int:
        """Let a process start a program that no agent drives, with these uids at first; its pid.

        CallError where that is refused.
        """
        self._check_new(name)
        (result,) = self._backend.perform(starter, [call])
        if self._follower:
            self._follower.meet_strangers(self._hosts[starter])
        self._touch(starter)
        if result.errno:
            self._show(starter, shown, result)
            self.refusal = CallError(call.name, [result])
            raise self.refusal
        assert isinstance(result.value, int)
        started = StartedProcess(result.value, credentials)
        self._keep(name, self._hosts[starter], started, starter)
        self._emit_call(name, shown, "0")
        return started.pid

    def tell(self, process: str, words: str) -> None:
        """Show what became of a process that no agent drives, as strace would."""
        self._touch(process)
        self._emit_call(process, words)

    def advise(self, name: str, text: str) -> None:
        """Give advice on the step that has just ended."""
        self._emit(Advised(len(self.verdicts), name, text))

    def consult(self, process: str, call: Call) -> Value:
        """What a process answers to a call that only looks, and is none of the lab's."""
        (result,) = self._backend.perform(process, [call])
        if result.errno:
            raise CallError(call.name, [result])
        return result.value

    def observe(self, host: str) -> Observation:
        """What the kernel says of a host, now."""
        return self._backend.observe(host)

    def introduce(
        self, pid: int, name: str, parent: str, credentials: Credentials | None = None
    ) -> None:
        """Name a process that no agent drives; without `credentials` it has its parent's."""
        self._check_new(name)
        if self._follower:
            self._follower.meet_strangers(self._hosts[parent])
        had = credentials or self._credentials[parent]
        self._keep(name, self._hosts[parent], StartedProcess(pid, had), parent)

    def show_host(self, host: str) -> None:
        """Let the open step's evidence show a host."""
        self._check_step()
        if host not in self._touched:
            self._touched.append(host)

    def quote(self, process: str, line: str) -> None:
        """Show a line that a process has written to standard error."""
        self._touch(process)
        self._emit_call(process, f"write(2, {show_words(line)})")

    # --- steps ---

    def begin_step(self, step: StepStarted) -> None:
        """From here on calls belong to this step."""
        if self._step is not None:
            raise LabError("A step inside a step.")
        if self._has_concluded:
            raise LabError("A step after the conclusion.")
        self._step = step
        self._touched = []
        self.calls_made = 0
        self.refusal = None
        if self._follower:
            self._follower.begin_step(is_measured=isinstance(step.expected, Measured))
        self._emit(step)

    @property
    def now(self) -> int:
        """Microseconds since the run began."""
        return (time.monotonic_ns() - self._begun) // 1000

    @property
    def kernel(self) -> str:
        """The kernel, as uname -r."""
        return self._backend.kernel

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
        self._emit(StepEnded(step.number, outcome, verdict, evidence, self._decide(outcome)))

    def conclude(self, finding: Finding, fact: str, aside: Sequence[int]) -> None:
        """Say what came of the claim, where all steps were as expected.

        Those with the numbers `aside` may have been skipped.
        """
        if self._step is not None or self._has_concluded or not self.verdicts:
            raise LabError("A conclusion comes once, after all steps.")
        self._has_concluded = True
        skipped = {
            number for number, verdict in enumerate(self.verdicts, 1) if verdict is Verdict.SKIPPED
        }
        if Verdict.DIFFERS not in self.verdicts and skipped <= {*aside}:
            self._emit(Concluded(finding, fact))

    # --- the parts ---

    def _make(self, process: str, calls: Sequence[Call]) -> Sequence[CallResult]:
        """Let a process make calls, and whoever follows see them."""
        follower = self._follower
        if follower is None:
            return self._backend.perform(process, calls)
        follower.prepare(process, calls, self._backend.observe)
        results = self._backend.perform(process, calls)
        if results:
            follower.take(process, calls, results)
        else:
            follower.execute(process)
        return results

    def _decide(self, outcome: Outcome) -> Decision | None:
        """What the rules say, where it is they that decided the step."""
        match outcome:
            case Succeeded() | Failed(call="bind" | "listen") if self._follower:
                return self._follower.decide(self.layout.user, self._say)
        return None

    def _publish(self, plan: HostPlan, publication: Publication) -> OpenedHost:
        """Open a host with a port of the machine's, shown as a call of the container engine's."""
        try:
            opened = self._backend.open_host(plan)
        except PublicationRefused as error:
            errno = name_errno(error.errno)
            asked = replace(publication, machine_port=error.machine_port)
            call = show_publication(asked, plan.ipv4)
            self._emit_made(ENGINE, 0, call, f"-1 {errno} ({error.reason})", errno)
            self.refusal = CallError(error.call, [CallResult(None, error.errno, NOBODY)])
            raise self.refusal from error
        given = replace(publication, machine_port=opened.machine_port)
        self._emit_made(ENGINE, 0, show_publication(given, plan.ipv4), "0")
        return opened

    def _check_step(self) -> None:
        if self._step is None:
            raise LabError("A call outside of a step: only a step says what is expected of it.")

    def _touch(self, process: str) -> str:
        """The process's host, whose evidence the open step will show."""
        host = self._hosts[process]
        self.show_host(host)
        return host

    def _executed(self, process: str) -> CallResult:
        """What an exec that succeeded would have returned, had it returned."""
        return CallResult(0, 0, self._credentials[process])

    def _check_new(self, name: str) -> None:
        if name in self._hosts:
            raise LabError(f"There are two processes named {name}.")
        if name == ENGINE:
            raise LabError(f"No process can be named {name}: it stands for what publishes ports.")

    def _keep(self, name: str, host: str, started: StartedProcess, parent: str) -> int:
        self._hosts[name] = host
        self._credentials[name] = started.credentials
        self._names[host][started.pid] = name
        user = self._outer.get(name) or self.layout.user(started.credentials.effective)
        self._emit(ProcessStarted(name, host, user, started.pid, started.credentials, parent))
        return started.pid

    def _show(self, process: str, call: str, result: CallResult) -> None:
        self._credentials[process] = result.credentials
        self._emit_call(process, call, show_result(result), result.errno_name)

    def _emit_call(self, process: str, call: str, result: str = "", errno: str = "") -> None:
        self._emit_made(process, self._credentials[process].effective, call, result, errno)

    def _emit_made(self, who: str, uid: int, call: str, result: str, errno: str = "") -> None:
        self.calls_made += 1
        self._emit(CallMade(who, uid, call, result, errno, self.now))


def check_ports(unprivileged_port_start: int, publication: Publication | None) -> None:
    """LabError for numbers that are no ports."""
    if unprivileged_port_start not in PORT_STARTS:
        raise LabError(f"unprivileged_port_start={unprivileged_port_start}: 0 to 32768.")
    if publication and (
        publication.port not in PORTS or publication.machine_port not in (0, *PORTS)
    ):
        raise LabError(f"A publication of what are no ports: {publication}.")
