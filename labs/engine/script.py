"""What a lab's script is written with: hosts, processes, sockets and steps.

A remote process offers the names of Python's `socket` and `os` modules, so that a lab reads like
the program that it stands for. A call that the kernel refuses raises CallError, an OSError; the
step in which it is made turns it into an outcome.
"""

import socket as socket_module
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from signal import SIGKILL
from types import TracebackType
from typing import Literal

from labs.engine.errors import BindlabError, Interrupted, LabError, Unsupported
from labs.engine.model import (
    UNPRIVILEGED_PORT_START,
    Address,
    Argument,
    Broken,
    Call,
    CallResult,
    Expectation,
    Failed,
    HostPlan,
    Measured,
    Ok,
    OpenedHost,
    Outcome,
    Publication,
    Quantity,
    Reference,
    Refused,
    Skipped,
    SocketRow,
    StepStarted,
    Succeeded,
    Verdict,
    name_errno,
)
from labs.engine.session import CallError, Session

OK = Ok()
EACCES = Refused("EACCES")
EADDRINUSE = Refused("EADDRINUSE")
ECONNREFUSED = Refused("ECONNREFUSED")
EINVAL = Refused("EINVAL")
EPERM = Refused("EPERM")

ANY = "0.0.0.0"
BACKLOG = 128
CONDITION_DEADLINE = 5.0  # seconds: for what the kernel does in microseconds
CONDITION_INTERVAL = 0.001


def between(low: float, high: float, what: str) -> Measured:
    """Expect a measured quantity of `what` in [low, high]."""
    return Measured(what, low, high)


def exactly(value: float, what: str) -> Measured:
    """Expect a measured quantity of `what` to be this value."""
    return Measured(what, value, value)


@dataclass(frozen=True)
class Lab:
    """A scripted scenario with checkable outcomes; `title` says in one line what it shows."""

    name: str
    title: str
    script: "Callable[[Run], None]"


def lab(name: str, *, title: str) -> "Callable[[Callable[[Run], None]], Lab]":
    """Make a function of a run into the lab of this name."""

    def make(script: "Callable[[Run], None]") -> Lab:
        return Lab(name, title, script)

    return make


class Run:
    """One run of a lab, as its script sees it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def host(
        self,
        name: str,
        *,
        unprivileged_port_start: int = UNPRIVILEGED_PORT_START,
        publish: Publication | None = None,
    ) -> "Host":
        """Open a host: a network namespace with an IPv4 and an IPv6 address of its own.

        From `unprivileged_port_start` on its ports take no capability. To `publish` a port is a
        call, which may be refused and belongs to a step; not every backend can do it.
        """
        return Host(self._session, *self._session.open_host(name, unprivileged_port_start, publish))

    def port(self, usual: int) -> int:
        """The port to use where one would usually write `usual`; --seed changes it."""
        return self._session.layout.port(usual)

    def step(self, title: str, *, expect: Expectation, why: str) -> "Step":
        """One thing done and what is expected of it; `why` is the reason, in a sentence or two."""
        return Step(self._session, title, expect, why)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds; LabError where it does not within five seconds."""
        deadline = time.monotonic() + CONDITION_DEADLINE
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"Waited {CONDITION_DEADLINE:g} seconds in vain: {what}.")
            time.sleep(CONDITION_INTERVAL)


class SkippedStep(Exception):
    """Raised by `Step.skip` to leave the step."""

    def __init__(self, outcome: Skipped) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Step:
    """A step, as the `with` block that does it; `outcome` is None until that has ended."""

    def __init__(self, session: Session, title: str, expected: Expectation, why: str) -> None:
        self._session = session
        self._quantity: Quantity | None = None
        self.plan = StepStarted(session.step_number, title, expected, why)
        self.outcome: Outcome | None = None

    def measured(self, value: float, parts: Mapping[str, float] | None = None) -> None:
        """Give the quantity that the step expects; `parts` are what it is the sum of, by name."""
        if not isinstance(self.plan.expected, Measured):
            raise LabError("A step that expects no quantity has measured one.")
        self._quantity = Quantity(self.plan.expected.what, value, dict(parts or {}))

    def skip(self, reason: str, since: str = "") -> None:
        """Leave the step: this kernel or backend cannot do it; `since` is the first that can."""
        raise SkippedStep(Skipped(reason, since))

    def needs(self, earlier: "Step") -> None:
        """Leave the step where that one has not done what was expected of it.

        For a step that uses what an earlier one makes: where that was skipped, so is this one, for
        the same reason.
        """
        outcome = earlier.outcome
        if isinstance(outcome, Skipped):
            raise SkippedStep(outcome)
        if outcome is None or compare(earlier.plan.expected, outcome) is not Verdict.PASSED:
            self.skip(f"it needs step {earlier.plan.number}, which was otherwise")

    def __enter__(self) -> "Step":
        self._session.begin_step(self.plan)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | bool:
        outcome: Outcome
        match error:
            case None:
                outcome = self._judge_calls()
            case CallError():
                outcome = failure(error)
            case SkippedStep():
                outcome = error.outcome
            case Unsupported():
                outcome = Skipped(error.message)
            case UnboundLocalError() if Verdict.SKIPPED in self._session.verdicts:
                # What `needs` would have said; never a fault where nothing was skipped.
                outcome = Skipped("it needs what a skipped step would have set")
            case BindlabError():
                self._session.end_step(Broken(error.message), Verdict.FAILED)
                return False
            case Interrupted():
                return False  # there is nobody left to ask
            case _:
                self._session.end_step(Broken(repr(error)), Verdict.FAILED)
                return False
        self.outcome = outcome
        self._session.end_step(outcome, compare(self.plan.expected, outcome))
        return True

    def _judge_calls(self) -> Outcome:
        if isinstance(self.plan.expected, Measured):
            if self._quantity is None:
                return self._give_up("The step has not measured what it expects.")
            return self._quantity
        if not self._session.calls_made:
            return self._give_up("The step has made no call: it shows nothing.")
        # Also a refusal that the script has caught is one.
        return failure(self._session.refusal) if self._session.refusal else Succeeded()

    def _give_up(self, reason: str) -> Outcome:
        self._session.end_step(Broken(reason), Verdict.FAILED)
        raise LabError(reason)


def failure(error: CallError) -> Failed:
    """The outcome of a refused call."""
    return Failed(name_errno(error.errno or 0), error.call)


def compare(expected: Expectation, outcome: Outcome) -> Verdict:
    """Hold an outcome against what was expected."""
    match expected, outcome:
        case _, Skipped():
            return Verdict.SKIPPED
        case Ok(), Succeeded():
            return Verdict.PASSED
        case Refused(errno, call), Failed() if errno == outcome.errno:
            return Verdict.PASSED if call in ("", outcome.call) else Verdict.DIFFERS
        case Measured(what, low, high), Quantity() if what == outcome.what:
            return Verdict.PASSED if low <= outcome.value <= high else Verdict.DIFFERS
    return Verdict.DIFFERS


class Host:
    """A network namespace with its own addresses.

    `machine_port` is the port of the machine's under which a port of the host is published, 0 where
    none is.
    """

    def __init__(self, session: Session, plan: HostPlan, opened: OpenedHost) -> None:
        self._session = session
        self.name = plan.name
        self.ipv4 = plan.ipv4
        self.ipv6 = plan.ipv6
        self.machine_port = opened.machine_port

    def process(
        self, name: str, *, user: str, capabilities: Sequence[str] = (), remapped: bool = False
    ) -> "Process":
        """Start a process that takes its user before it makes a socket.

        It has the capabilities(7) that are named and no others, root too. One that is `remapped`
        is in a user namespace of its own: its uid there is the user's, and to the rest of the run
        it is another user.
        """
        self._session.start_process(name, self.name, user, capabilities, remapped=remapped)
        return Process(self._session, name, self)

    def sockets(self, port: int) -> list[SocketRow]:
        """What sock_diag says of this host now: its sockets with this local port."""
        rows = self._session.sockets(self.name)
        return [row for row in rows if row.local[1] == port]


class Process:
    """A real process on a host, under one user, driven call by call."""

    def __init__(self, session: Session, name: str, host: Host) -> None:
        self._session = session
        self.name = name
        self.host = host

    def socket(
        self,
        family: int = socket_module.AF_INET,
        kind: int = socket_module.SOCK_STREAM,
        protocol: int = 0,
    ) -> "Socket":
        """socket(2)."""
        (result,) = self.perform(call("socket", family, kind, protocol))
        return Socket(self, number(result))

    def listen(
        self,
        port: int,
        *,
        address: str = ANY,
        reuseport: bool = False,
        reuseaddr: bool = False,
        backlog: int = BACKLOG,
    ) -> "Socket":
        """socket(), setsockopt(), bind() and listen(), as a TCP server starts.

        Where one is refused, the socket is closed again, as at the end of such a server.
        """
        new = Reference(0)
        options = [
            call("setsockopt", new, socket_module.SOL_SOCKET, option, 1)
            for option, wanted in (
                (socket_module.SO_REUSEADDR, reuseaddr),
                (socket_module.SO_REUSEPORT, reuseport),
            )
            if wanted
        ]
        return self._open(
            address, *options, call("bind", new, (address, port)), call("listen", new, backlog)
        )

    def connect(self, address: Address) -> "Socket":
        """socket() and connect(), as a TCP client starts; closed again where it is refused."""
        return self._open(address[0], call("connect", Reference(0), address))

    def connect_many(self, address: Address, count: int) -> "list[Socket]":
        """The same, `count` times over, sent in one message."""
        calls: list[Call] = []
        for _ in range(count):
            new = Reference(len(calls))
            calls += [call("socket", *stream_socket(address[0])), call("connect", new, address)]
        results = self.perform(*calls)
        return [Socket(self, number(result)) for result in results[::2]]

    def fork(self, name: str) -> "Process":
        """fork(2): the child inherits the sockets; ask for them with `inherited`."""
        self._session.fork_process(self.name, name)
        return Process(self._session, name, self.host)

    def inherited(self, socket: "Socket") -> "Socket":
        """This process's copy of a socket that its parent had when it forked."""
        return Socket(self, socket.descriptor)

    def exec(self, path: str, *arguments: str) -> None:
        """execve(2): the program takes this process's place, with its inheritable sockets."""
        self.perform(call("exec", path, (path, *arguments)))

    def exit(self, status: int = 0) -> None:
        """exit(2): the process ends by itself; returns when it is gone."""
        self.perform(call("exit", status))
        self._session.end_process(self.name, 0)

    def kill(self, signal: int = SIGKILL) -> None:
        """End the process by a signal from outside; returns when it is gone."""
        self._session.end_process(self.name, signal)

    def seteuid(self, user: str | int) -> None:
        """seteuid(2)."""
        self.perform(call("seteuid", self.uid(user)))

    def setuid(self, user: str | int) -> None:
        """setuid(2)."""
        self.perform(call("setuid", self.uid(user)))

    def setreuid(self, real: str | int, effective: str | int) -> None:
        """setreuid(2)."""
        self.perform(call("setreuid", self.uid(real), self.uid(effective)))

    def setresuid(self, real: str | int, effective: str | int, saved: str | int) -> None:
        """setresuid(2)."""
        self.perform(call("setresuid", *(self.uid(user) for user in (real, effective, saved))))

    def setfsuid(self, user: str | int) -> None:
        """setfsuid(2), which the kernel never answers with an error."""
        self.perform(call("setfsuid", self.uid(user)))

    def perform(self, *calls: Call) -> list[CallResult]:
        """Make calls in one message; CallError for the first that is refused, the last made."""
        return list(self._session.perform(self.name, calls))

    def _open(self, address: str, *calls: Call) -> "Socket":
        try:
            results = self.perform(call("socket", *stream_socket(address)), *calls)
        except CallError as error:
            self.perform(*(call("close", number(result)) for result in error.results[:1]))
            raise
        return Socket(self, number(results[0]))

    def uid(self, user: str | int) -> int:
        """The uid of a user by name; a number stands for itself."""
        return user if isinstance(user, int) else self._session.layout.uid(user)


class Socket:
    """A socket of a remote process, by its descriptor there."""

    def __init__(self, process: Process, descriptor: int) -> None:
        self.process = process
        self.descriptor = descriptor

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """setsockopt(2) with a number."""
        self._perform("setsockopt", level, option, value)

    def getsockopt(self, level: int, option: int) -> int:
        """getsockopt(2) of a number."""
        return number(self._perform("getsockopt", level, option))

    def bind(self, address: Address) -> None:
        """bind(2)."""
        self._perform("bind", address)

    def listen(self, backlog: int = BACKLOG) -> None:
        """listen(2)."""
        self._perform("listen", backlog)

    def accept(self) -> "Socket":
        """accept(2): waits for a connection."""
        return Socket(self.process, number(self._perform("accept")))

    def accept_many(self, count: int) -> "list[Socket]":
        """The same, `count` times over, sent in one message."""
        calls = [call("accept", self.descriptor)] * count
        results = self.process.perform(*calls) if calls else []
        return [Socket(self.process, number(result)) for result in results]

    def connect(self, address: Address) -> None:
        """connect(2)."""
        self._perform("connect", address)

    def send(self, text: str) -> int:
        """send(2): the number of bytes taken; each character is one byte (Latin-1)."""
        return number(self._perform("send", text))

    def recv(self, size: int) -> str:
        """recv(2): waits for data; empty at the end of the stream."""
        return str(self._perform("recv", size).value)

    def shutdown(self, how: int) -> None:
        """shutdown(2)."""
        self._perform("shutdown", how)

    def close(self) -> None:
        """close(2)."""
        self._perform("close")

    def getsockname(self) -> Address:
        """getsockname(2)."""
        value = self._perform("getsockname").value
        assert isinstance(value, tuple)
        return value

    def inode(self) -> int:
        """fstat(2): the socket's inode number, by which sock_diag knows it."""
        return number(self._perform("fstat"))

    def fchown(self, user: str | int) -> None:
        """fchown(2) to this user, the group as it is."""
        self._perform("fchown", self.process.uid(user), -1)

    def set_inheritable(self, inheritable: bool) -> None:
        """Whether the socket outlives exec (FD_CLOEXEC of fcntl(2), the other way round)."""
        self._perform("set_inheritable", int(inheritable))

    def _perform(self, name: str, *arguments: Argument) -> CallResult:
        (result,) = self.process.perform(call(name, self.descriptor, *arguments))
        return result


def close_all(sockets: Sequence[Socket]) -> None:
    """close(2) of each, in one message for each process."""
    processes = {socket.process.name: socket.process for socket in sockets}
    for process in processes.values():
        owned = [socket for socket in sockets if socket.process.name == process.name]
        process.perform(*(call("close", socket.descriptor) for socket in owned))


def publication(port: int, *, machine_port: int = 0, held: bool = False) -> Publication:
    """What `Run.host` is to publish: this port of the host's, at the machine's 127.0.0.1.

    0 is any port of the machine's. Where that is `held`, bindlab listens on it first, as any
    program of the machine might.
    """
    return Publication(port, machine_port, held)


def call(name: str, *arguments: Argument) -> Call:
    """A call by name, for `Process.perform`."""
    return Call(name, arguments)


def number(result: CallResult) -> int:
    """The number that a call returned."""
    assert isinstance(result.value, int)
    return result.value


def stream_socket(address: str) -> tuple[int, int, int]:
    """The arguments of socket(2) for TCP over the family of this address."""
    family = socket_module.AF_INET6 if ":" in address else socket_module.AF_INET
    return int(family), int(socket_module.SOCK_STREAM), 0
