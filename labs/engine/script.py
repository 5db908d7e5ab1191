"""What a lab's script is written with: the run, its steps, and what it drives, of `remote`.

A call that the kernel refuses raises CallError, an OSError; the step in which it is made turns it
into an outcome.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from labs.engine.answers import Answers, chi_square
from labs.engine.errors import BindlabError, ExitStatus, Interrupted, LabError, Unsupported
from labs.engine.handover import connect_unix, hand_over
from labs.engine.model import (
    Broken,
    Expectation,
    Failed,
    Finding,
    Meaning,
    Measured,
    Ok,
    Outcome,
    Parts,
    Quantity,
    Refused,
    Skipped,
    StepStarted,
    Succeeded,
    Verdict,
    name_errno,
)
from labs.engine.plans import UNPRIVILEGED_PORT_START, Publication
from labs.engine.programs import Child, Program
from labs.engine.questions import ask_sleepers, renew
from labs.engine.remote import (
    ANY,
    HTTP_GET,
    Host,
    Process,
    Socket,
    call,
    close_all,
    publication,
)
from labs.engine.session import CallError, Session
from labs.engine.translation import Translation
from labs.engine.waiting import PROGRAM_DEADLINE, wait_until

if TYPE_CHECKING:
    from labs.engine.agent import Message

__all__ = [
    "ANY",
    "EACCES",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "ECONNREFUSED",
    "EINVAL",
    "ENETUNREACH",
    "ENODEV",
    "EPERM",
    "FROM_RULES",
    "HTTP_GET",
    "OK",
    "Answers",
    "CallError",
    "Child",
    "Finding",
    "Host",
    "Lab",
    "Process",
    "Program",
    "Run",
    "Socket",
    "Step",
    "as_shares",
    "as_wake_ups",
    "ask_sleepers",
    "between",
    "by_chance",
    "call",
    "chi_square",
    "close_all",
    "connect_unix",
    "exactly",
    "hand_over",
    "lab",
    "publication",
    "renew",
]


class FromRules(Enum):
    """Stands for what the rules say will come of a step."""

    FROM_RULES = "from the rules"


FROM_RULES = FromRules.FROM_RULES
"""Expect what the model of the rules answers, for the run's own kernel."""

OK = Ok()
EACCES = Refused("EACCES")
EADDRINUSE = Refused("EADDRINUSE")
EADDRNOTAVAIL = Refused("EADDRNOTAVAIL")
ECONNREFUSED = Refused("ECONNREFUSED")
EINVAL = Refused("EINVAL")
ENETUNREACH = Refused("ENETUNREACH")
ENODEV = Refused("ENODEV")
EPERM = Refused("EPERM")


def between(low: float, high: float, what: str) -> Measured:
    """Expect a measured quantity of `what` in [low, high]."""
    return Measured(what, low, high)


def exactly(value: float, what: str) -> Measured:
    """Expect a measured quantity of `what` to be this value."""
    return Measured(what, value, value)


def as_shares(values: Mapping[str, float]) -> Parts:
    """How many of something each got, by name."""
    return Parts(values, Meaning.SHARES)


def by_chance(values: Mapping[str, float]) -> Parts:
    """The same where each had the same chance for each of them, as in a reuseport group."""
    return Parts(values, Meaning.CHANCE)


def as_wake_ups(values: Mapping[str, float]) -> Parts:
    """How often each woke, by name."""
    return Parts(values, Meaning.WAKE_UPS)


@dataclass(frozen=True)
class Lab:
    """A scripted scenario with checkable outcomes; `title` says in one line what it shows.

    `claim` is what is widely said and the lab puts to the test; empty where that is nothing.
    """

    name: str
    title: str
    script: "Callable[[Run], None]"
    claim: str = ""

    @property
    def folder(self) -> Path:
        """Where its script is, and what belongs to it."""
        return Path(self.file).parent

    @property
    def file(self) -> str:
        """Its script."""
        return self.script.__code__.co_filename

    @property
    def request(self) -> "Message":
        """What an isolated kernel is asked for."""
        return {"lab": self.name}

    def play(self, session: Session, translation: Translation) -> None:
        """Run the script to its end; raises what stops it."""
        self.script(Run(session, translation, self.script))

    def judge(self, verdicts: "Sequence[Verdict]") -> ExitStatus:
        """The status of a run whose script came to its end; LabError where there was no step."""
        return judge(verdicts)


def judge(verdicts: "Sequence[Verdict]") -> ExitStatus:
    """What the steps' verdicts come to; where all was skipped nothing passed.

    LabError where there was no step.
    """
    if not verdicts:
        raise LabError("The lab has no step: it shows nothing.")
    if Verdict.DIFFERS in verdicts:
        return ExitStatus.DIFFERS
    return ExitStatus.PASSED if Verdict.PASSED in verdicts else ExitStatus.CANNOT_RUN


def lab(name: str, *, title: str, claim: str = "") -> "Callable[[Callable[[Run], None]], Lab]":
    """Make a function of a run into the lab of this name."""

    def make(script: "Callable[[Run], None]") -> Lab:
        return Lab(name, title, script, claim)

    return make


class Run:
    """One run of a lab, as its script sees it.

    Texts are English and may have placeholders, whose values are given by name; the run says them
    in its own language.
    """

    def __init__(
        self,
        session: Session,
        translation: Translation | None = None,
        script: "Callable[[Run], None] | None" = None,
    ) -> None:
        """A run that may ask what the rules say of its steps where it has its `script`."""
        self._session = session
        self._translation = translation or Translation()
        self._script = script
        self._foreseen: Mapping[int, Expectation] | None = None

    def host(
        self,
        name: str,
        *,
        unprivileged_port_start: int = UNPRIVILEGED_PORT_START,
        publish: Publication | None = None,
        tcp_migrate_req: bool = False,
    ) -> Host:
        """Open a host: a network namespace with an IPv4 and an IPv6 address of its own.

        From `unprivileged_port_start` on its ports take no capability. To `publish` a port is a
        call, which may be refused and belongs to a step; not every backend can do it. With
        `tcp_migrate_req` (since 5.14) what waits at a listener outlives it in its reuseport group.
        """
        opened = self._session.open_host(
            name, unprivileged_port_start, publish, tcp_migrate_req=tcp_migrate_req
        )
        return Host(self._session, *opened)

    @property
    def kernel(self) -> tuple[int, int]:
        """The first two numbers of the kernel's version; of a plan, this machine's."""
        return kernel_version(self._session.kernel)

    def port(self, usual: int) -> int:
        """The port to use where one would usually write `usual`; --seed changes it."""
        return self._session.layout.port(usual)

    def step(
        self,
        title: str,
        *,
        expect: Expectation | FromRules,
        why: str,
        soon: bool = False,
        see: str = "",
        rule: str = "",
        **values: object,
    ) -> "Step":
        """One thing done and what is expected of it; `why` is the reason, in a sentence or two.

        By FROM_RULES it is expected what the model answers; LabError where it does not say. `rule`
        is the one of which the `why` tells, as `invoke lab.check` names it.

        A step that says `soon` has to follow the one before it at once, for what that has left does
        not last: nobody is waited for in between. `see` is the lab that explains best what this
        step shows, where that is another one.
        """
        planned = self._plan_step(title, expect, why, values)
        plan = replace(planned, soon=soon, see=see, rule=rule)
        return Step(self._session, plan, self._translation)

    def _foresee(self, number: int) -> Expectation:
        """What the rules say of a step that is still to be done."""
        from labs.engine.foresight import expected_of, foresee

        script = self._script
        if self._foreseen is None and script is not None:

            def play(session: Session) -> None:
                script(Rehearsal(session))

            self._foreseen = foresee(play, self._session.layout.seed, self._session.kernel)
        return expected_of(self._foreseen or {}, number)

    def _plan_step(
        self, title: str, expect: Expectation | FromRules, why: str, values: Mapping[str, object]
    ) -> StepStarted:
        say = self._translation
        if isinstance(expect, FromRules):
            expect = self._foresee(self._session.step_number)
        return StepStarted(
            self._session.step_number,
            say.text(title, values),
            say.expectation(expect),
            say.text(why, values),
        )

    def conclude(
        self, finding: Finding, fact: str, *, aside: "Sequence[Step]" = (), **values: object
    ) -> None:
        """Say what came of the lab's claim, and by which fact; the last that a script does.

        Nothing is said where a step went otherwise or was skipped: then it was not shown. The fact
        does without the steps `aside`, which may have been skipped.
        """
        numbers = [step.plan.number for step in aside]
        self._session.conclude(finding, self._translation.text(fact, values), numbers)

    def wait_until_none(self, host: Host, port: int, state: str) -> None:
        """Wait until no socket of the host's on the port is in this state; raises LabError."""
        self.wait_until(lambda: host.count(port, state) == 0, f"none in {state}")

    def wait_for_queues(self, host: Host, port: int, count: int) -> dict[int, int]:
        """Wait until so many connections are in accept queues; their lengths by the inode."""
        queues: dict[int, int] = {}

        def all_wait() -> bool:
            queues.update(host.queues(port))
            return sum(queues.values()) == count

        self.wait_until(all_wait, f"{count} connections in the accept queues")
        return queues

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds; LabError where it does not within five seconds."""
        wait_until(condition, what)

    def wait_for_program(self, condition: Callable[[], bool], what: str) -> None:
        """The same for what a program does that nobody here has started: a minute."""
        wait_until(condition, what, PROGRAM_DEADLINE)


class Rehearsal(Run):
    """A run ahead of the run, by which it is found out what the rules will say."""

    def _foresee(self, number: int) -> Expectation:  # noqa: ARG002
        return OK  # what is expected makes no difference to what comes


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release, as uname -r says it."""
    major, minor = re.findall(r"\d+", release)[:2]
    return int(major), int(minor)


class SkippedStep(Exception):
    """Raised by `Step.skip` to leave the step."""

    def __init__(self, outcome: Skipped) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Step:
    """A step, as the `with` block that does it; `outcome` is None until that has ended."""

    def __init__(self, session: Session, plan: StepStarted, translation: Translation) -> None:
        self._session = session
        self._translation = translation
        self._quantity: Quantity | None = None
        self.plan = plan
        self.outcome: Outcome | None = None

    def measured(self, value: float, parts: Parts | Mapping[str, float] | None = None) -> None:
        """Give the quantity that the step expects, and its `parts` by name if it has some."""
        if not isinstance(self.plan.expected, Measured):
            raise LabError("A step that expects no quantity has measured one.")
        if isinstance(value, bool):
            raise LabError("A step has measured whether something is so, and not how much of it.")
        found = parts if isinstance(parts, Parts) else Parts(parts or {})
        self._quantity = Quantity(
            self.plan.expected.what, value, dict(found.values), found.meaning, found.timeline
        )

    def skip(self, reason: str, since: str = "") -> None:
        """Leave the step: this kernel or backend cannot do it; `since` is the first that can."""
        raise SkippedStep(Skipped(self._translation.text(reason), since))

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

    def __enter__(self) -> Self:
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
        self._end(outcome, compare(self.plan.expected, outcome))
        return True

    def _end(self, outcome: Outcome, verdict: Verdict) -> None:
        self._session.end_step(outcome, verdict)

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
