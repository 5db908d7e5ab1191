"""What a run is made of, as frozen data: the only thing that labs, backends and views share."""

import errno as errno_module
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from labs.engine.decision import Decision

Address: TypeAlias = tuple[str, int]
"""An IPv4 or IPv6 address in text form and a port, as Python's `socket` module has it."""


@dataclass(frozen=True)
class Reference:
    """Stands for the value of an earlier call of the same batch, by its index from 0."""

    index: int


Tally: TypeAlias = Mapping[str, int]
"""What was counted, by name."""

OUTCOMES = ("answered", "refused", "reset", "timed out")
"""What a tally of requests counts: every one is one of these, and "asked" is their sum."""

TIMES = ("elapsed", "median", "ninety-ninth")
"""What such a tally has besides, in microseconds: of all, and percentiles of one request."""

SLOTS = 60
"""Into how many slots of time a load's tally is divided, each of the same length."""

SLOT = "slot "
"""What the name of a count begins with that is of one of these slots: `slot NUMBER OUTCOME`."""

Argument: TypeAlias = int | str | Address | tuple[str, ...] | tuple[int, ...] | Reference
Value: TypeAlias = int | str | Address | Tally | None


class Verdict(StrEnum):
    """How a step's outcome compares with what was expected of it."""

    PASSED = "passed"
    DIFFERS = "differs"
    SKIPPED = "skipped"
    FAILED = "failed"


class Finding(StrEnum):
    """What came of a lab's claim, on the kernel where it was put to the test."""

    HOLDS = "holds"
    CONDITIONAL = "holds if"
    REFUTED = "does not hold"


class Meaning(StrEnum):
    """What the parts of a quantity are: `CHANCE` are shares that chance gives out evenly."""

    FIGURES = "figures"
    SHARES = "shares"
    CHANCE = "shares by chance"
    WAKE_UPS = "wake-ups"
    REQUESTS = "requests"


# --- expectations -------------------------------------------------------------------------


@dataclass(frozen=True)
class Ok:
    """Every call of the step succeeds."""

    def __str__(self) -> str:
        return "OK"


@dataclass(frozen=True)
class Refused:
    """A call of the step fails with this errno; `call`, where given, says which call."""

    errno: str
    call: str = ""

    def by(self, call: str) -> "Refused":
        """The same errno, from the call of this name and no other."""
        return Refused(self.errno, call)

    def __str__(self) -> str:
        return f"{self.errno} from {self.call}()" if self.call else self.errno


@dataclass(frozen=True)
class Measured:
    """A quantity that the step measures lies in [low, high]; `what` names it with its unit."""

    what: str
    low: float
    high: float

    def __str__(self) -> str:
        bound = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        return f"{bound} {self.what}"


Expectation: TypeAlias = Ok | Refused | Measured


# --- calls --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Credentials:
    """A process's uids, as its own user namespace numbers them (credentials(7))."""

    real: int
    effective: int
    saved: int
    filesystem: int

    @property
    def uids(self) -> tuple[int, int, int, int]:
        """All four, in the order of /proc/PID/status."""
        return (self.real, self.effective, self.saved, self.filesystem)


@dataclass(frozen=True)
class Call:
    """One call that a process is to make, by its name in Python's `socket` or `os` module."""

    name: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class CallResult:
    """What the kernel answered: a value, or an errno other than 0; and who asked, after it."""

    value: Value
    errno: int
    credentials: Credentials

    @property
    def errno_name(self) -> str:
        """The errno's name, such as `EADDRINUSE`; empty for a success."""
        return name_errno(self.errno) if self.errno else ""


def name_errno(number: int) -> str:
    """An errno's name, such as `EADDRINUSE`."""
    return errno_module.errorcode.get(number, str(number))


# --- outcomes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Succeeded:
    """Every call succeeded."""

    def __str__(self) -> str:
        return "OK"


@dataclass(frozen=True)
class Failed:
    """A call failed: its errno by name and the call's name."""

    errno: str
    call: str

    def __str__(self) -> str:
        return f"{self.errno} from {self.call}()"


@dataclass(frozen=True)
class Timeline:
    """When a load's requests came to their end, in slots of time that follow each other.

    It has `begun` so many microseconds after the run, and each slot is `width` microseconds long;
    `slots` has for each how many requests came to each of OUTCOMES, in their order.
    """

    begun: int
    width: int
    slots: tuple[tuple[int, int, int, int], ...]

    @property
    def length(self) -> int:
        """All of it, in microseconds."""
        return self.width * len(self.slots)


@dataclass(frozen=True)
class Parts:
    """What a quantity consists of, by name, and what these parts mean."""

    values: Mapping[str, float]
    meaning: Meaning = Meaning.FIGURES
    timeline: Timeline | None = None


@dataclass(frozen=True)
class Quantity:
    """What was measured, and its parts by name; a `timeline` where they are those of a load."""

    what: str
    value: float
    parts: Mapping[str, float] = field(default_factory=dict)
    meaning: Meaning = Meaning.FIGURES
    timeline: Timeline | None = None

    def __str__(self) -> str:
        return f"{self.value:g} {self.what}"


@dataclass(frozen=True)
class Skipped:
    """The kernel or the backend cannot do this step: why, and what can (empty if unknown)."""

    reason: str
    since: str = ""

    def __str__(self) -> str:
        return f"{self.reason} (since {self.since})" if self.since else self.reason


@dataclass(frozen=True)
class Broken:
    """The step could not be carried through; says nothing about the kernel."""

    reason: str

    def __str__(self) -> str:
        return self.reason


Outcome: TypeAlias = Succeeded | Failed | Quantity | Skipped | Broken


# --- evidence -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SocketRow:
    """One socket as the kernel's sock_diag(7) reports it.

    `uid` is the socket's owner, as the lab's user namespace numbers it: the uid that the
    reuseport rule compares. For a listener `receive_queue` counts the connections waiting for
    accept() and `send_queue` is the backlog; otherwise both are bytes. `timer` is the timer of the
    socket's that runs, empty for none: RETRANSMIT, KEEPALIVE, TIME_WAIT (in FIN_WAIT2 too, where no
    process has the socket any more), PROBE or OTHER. It `expires` in so many milliseconds.
    """

    protocol: str
    state: str
    local: Address
    peer: Address
    uid: int
    inode: int
    receive_queue: int
    send_queue: int
    timer: str = ""
    expires: int = 0


@dataclass(frozen=True)
class OpenSocket:
    """A descriptor of a process that refers to a socket, and the options read from it."""

    descriptor: int
    inode: int
    reuseaddr: bool
    reuseport: bool


@dataclass(frozen=True)
class ProcessRow:
    """One process as /proc shows it on its host; `capabilities` is CapEff, a bit mask.

    `command` is the kernel's name for it (comm of proc(5)), where a backend says it. Its sockets
    are left out where the host may not look into it: a user namespace that is neither the host's
    nor below it.
    """

    pid: int
    credentials: Credentials
    capabilities: int
    sockets: tuple[OpenSocket, ...]
    command: str = ""


@dataclass(frozen=True)
class Observation:
    """All sockets and all processes of one host, at one moment."""

    sockets: tuple[SocketRow, ...]
    processes: tuple[ProcessRow, ...]


@dataclass(frozen=True)
class SocketEvidence:
    """A socket with the names of its owner and of the processes that hold it.

    `user` is empty where the socket has no inode, and so no owner of its own: not yet accepted, or
    left behind as in TIME_WAIT. The options are None where no process holds the socket.
    """

    row: SocketRow
    user: str
    holders: tuple[str, ...]
    reuseaddr: bool | None
    reuseport: bool | None


@dataclass(frozen=True)
class ProcessEvidence:
    """A process's name, uids and effective capabilities."""

    name: str
    credentials: Credentials
    capabilities: int


@dataclass(frozen=True)
class Evidence:
    """What the kernel says of one host after a step."""

    host: str
    sockets: tuple[SocketEvidence, ...]
    processes: tuple[ProcessEvidence, ...]


# --- events -------------------------------------------------------------------------------


# The backend of a plan, which has none.
PLAN = "plan"

# Who makes a call that no process of the lab makes: what publishes ports.
ENGINE = "engine"


@dataclass(frozen=True)
class RunStarted:
    """A lab begins; `started` is UTC in ISO 8601, `version` bindlab's, `kernel` as uname -r.

    `machine` is what booted the kernel where it is an isolated one, "uml" or "qemu"; empty where
    it is this machine's own. `claim` is what the lab puts to the test, empty for nothing.
    `language` is that of the lab's texts.
    """

    lab: str
    title: str
    claim: str
    version: str
    backend: str
    kernel: str
    machine: str
    seed: int | None
    started: str
    language: str = "en"


@dataclass(frozen=True)
class HostOpened:
    """A host is there; `enter` is the shell command to look around on it, empty for none."""

    host: str
    ipv4: str
    ipv6: str
    enter: str


@dataclass(frozen=True)
class ProcessStarted:
    """A process is there; `parent` is the process that forked it, empty for a fresh one."""

    process: str
    host: str
    user: str
    pid: int
    credentials: Credentials
    parent: str = ""


@dataclass(frozen=True)
class StepStarted:
    """A step begins: at once after the last where it says `soon`; the lab `see` explains it.

    `rule` is what its `why` tells of: the name of a rule, or a whole `Decision.reason`.
    """

    number: int
    title: str
    expected: Expectation
    why: str
    soon: bool = False
    see: str = ""
    rule: str = ""


@dataclass(frozen=True)
class Predicted:
    """What the trainee said of a step before it ran; None is "I don't know"."""

    number: int
    prediction: Expectation | None


@dataclass(frozen=True)
class CallMade:
    """A process made a call: as strace would show it, with the errno's name or nothing.

    `uid` is the effective one after the call, as the process's own user namespace numbers it. The
    process ENGINE is none of the lab's. It was known `at` so many microseconds after the run began.
    """

    process: str
    uid: int
    call: str
    result: str
    errno: str
    at: int = field(default=0, compare=False)  # the same call at another time is the same


@dataclass(frozen=True)
class StepEnded:
    """A step is over; `decision` is what the rules say, None where they do not decide it."""

    number: int
    outcome: Outcome
    verdict: Verdict
    evidence: tuple[Evidence, ...]
    decision: Decision | None = None


@dataclass(frozen=True)
class Advised:
    """A hint that fits what went otherwise in a step of a challenge's check, by its name there."""

    number: int
    name: str
    text: str


@dataclass(frozen=True)
class Concluded:
    """What came of the lab's claim, and by which measured fact.

    Only where no step differs, and none was skipped that it needs.
    """

    finding: Finding
    fact: str


@dataclass(frozen=True)
class RunEnded:
    """A lab is over; `error` says what stopped it early, empty if nothing did."""

    status: int
    error: str = ""
    hint: str = ""


Event: TypeAlias = (
    RunStarted
    | HostOpened
    | ProcessStarted
    | StepStarted
    | Predicted
    | CallMade
    | StepEnded
    | Advised
    | Concluded
    | RunEnded
)
