"""Steps: how an outcome comes about and is held against what was expected; on the fake backend."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labs.engine.backends import fake_process
from labs.engine.backends.fake import FakeBackend
from labs.engine.backends.fake_kernel import FakeHost
from labs.engine.backends.fake_work import request
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import (
    Address,
    CallMade,
    Concluded,
    Event,
    RunEnded,
    StepEnded,
    Tally,
    Verdict,
)
from labs.engine.runner import run_lab
from labs.engine.script import (
    EADDRINUSE,
    EPERM,
    OK,
    Finding,
    Process,
    Run,
    between,
    exactly,
    judge,
    lab,
)

Body = Callable[[Run, Process], None]


def run_body(body: Body) -> list[Event]:
    """Run a lab that has one host with one process of Alice's; returns the events."""

    @lab("trial", title="A lab of the tests")
    def trial(run: Run) -> None:
        body(run, run.host("server").process("alice", user="alice"))

    events: list[Event] = []
    run_lab(trial, FakeBackend(), Layout(None), [events.append])
    return events


def last_step(events: list[Event]) -> StepEnded:
    return next(event for event in reversed(events) if isinstance(event, StepEnded))


def end(events: list[Event]) -> RunEnded:
    (ended,) = [event for event in events if isinstance(event, RunEnded)]
    assert events[-1] is ended
    return ended


def listen(run: Run, alice: Process) -> None:
    with run.step("listen", expect=OK, why="free"):
        alice.listen(8080, reuseport=True)


def test_a_success_that_was_expected() -> None:
    events = run_body(listen)
    assert last_step(events).verdict is Verdict.PASSED
    assert end(events).status == ExitStatus.PASSED


def test_a_refusal_that_was_expected() -> None:
    def body(run: Run, alice: Process) -> None:
        listen(run, alice)
        with run.step("again", expect=EADDRINUSE, why="taken"):
            alice.listen(8080)

    events = run_body(body)
    assert str(last_step(events).outcome) == "EADDRINUSE from bind()"
    assert last_step(events).verdict is Verdict.PASSED


@pytest.mark.parametrize("expected", [OK, EPERM, EADDRINUSE.by("listen")])
def test_another_refusal_than_expected_differs(expected: object) -> None:
    def body(run: Run, alice: Process) -> None:
        listen(run, alice)
        with run.step("again", expect=expected, why="taken"):  # type: ignore[arg-type]
            alice.listen(8080)

    events = run_body(body)
    assert last_step(events).verdict is Verdict.DIFFERS
    assert end(events).status == ExitStatus.DIFFERS
    assert end(events).error == ""


def test_a_success_where_a_refusal_was_expected_differs() -> None:
    def body(run: Run, alice: Process) -> None:
        with run.step("listen", expect=EADDRINUSE, why="?"):
            alice.listen(8080)

    assert last_step(run_body(body)).verdict is Verdict.DIFFERS


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(3, Verdict.PASSED), (2, Verdict.PASSED), (4, Verdict.PASSED), (1.9, Verdict.DIFFERS)],
)
def test_a_measured_quantity(value: float, verdict: Verdict) -> None:
    def body(run: Run, alice: Process) -> None:
        with run.step("measure", expect=between(2, 4, "apples"), why="?") as step:
            step.measured(value, {"alice": value})

    events = run_body(body)
    assert last_step(events).verdict is verdict
    assert str(last_step(events).outcome) == f"{value:g} apples"


def test_a_refused_call_is_no_measured_quantity() -> None:
    def body(run: Run, alice: Process) -> None:
        listen(run, alice)
        with run.step("measure", expect=exactly(1, "listener"), why="?") as step:
            alice.listen(8080)
            step.measured(1)

    assert last_step(run_body(body)).verdict is Verdict.DIFFERS


def test_a_skipped_step_is_not_passed() -> None:
    def body(run: Run, alice: Process) -> None:
        with run.step("skip", expect=OK, why="?") as step:
            step.skip("no such option", since="9.9")

    events = run_body(body)
    assert last_step(events).verdict is Verdict.SKIPPED
    assert str(last_step(events).outcome) == "no such option (since 9.9)"
    assert end(events).status == ExitStatus.CANNOT_RUN


def no_step(run: Run, alice: Process) -> None:
    pass


def leaves(run: Run, alice: Process) -> None:
    with run.step("x", expect=OK, why="?"):
        alice.socket()
    sys.exit(0)


def leaves_in_a_step(run: Run, alice: Process) -> None:
    with run.step("x", expect=OK, why="?"):
        alice.socket()
        sys.exit(0)


def nothing(run: Run, alice: Process) -> None:
    with run.step("nothing", expect=OK, why="?"):
        pass


def not_measured(run: Run, alice: Process) -> None:
    with run.step("nothing", expect=exactly(1, "apple"), why="?"):
        pass


def measured_for_nothing(run: Run, alice: Process) -> None:
    with run.step("x", expect=OK, why="?") as step:
        step.measured(1)


def outside(run: Run, alice: Process) -> None:
    alice.socket()


def nested(run: Run, alice: Process) -> None:
    with run.step("a", expect=OK, why="?"), run.step("b", expect=OK, why="?"):
        alice.socket()


def twins(run: Run, alice: Process) -> None:
    run.host("other").process("alice", user="bob")


def twin_hosts(run: Run, alice: Process) -> None:
    run.host("server")


def raises(run: Run, alice: Process) -> None:
    with run.step("x", expect=OK, why="?"):
        raise ZeroDivisionError("in the lab")


def raises_oserror(run: Run, alice: Process) -> None:
    with run.step("x", expect=EADDRINUSE, why="?"):
        raise OSError(98, "not from any process of the lab")


def no_such_signal(run: Run, alice: Process) -> None:
    with run.step("x", expect=OK, why="?"):
        alice.kill(999)


def bad_port(run: Run, alice: Process) -> None:
    with run.step("x", expect=OK, why="?"):
        alice.listen(70_000)


@pytest.mark.parametrize(
    "body",
    [
        leaves,
        leaves_in_a_step,
        nothing,
        not_measured,
        measured_for_nothing,
        outside,
        nested,
        twins,
        twin_hosts,
        raises,
        raises_oserror,
        no_such_signal,
        bad_port,
    ],
)
def test_a_broken_script_is_no_outcome(body: Body) -> None:
    ended = end(run_body(body))
    assert ended.status == ExitStatus.FAILED
    assert f"{__file__}:" in ended.error
    line = int(ended.error.split(f"{__file__}:")[1].split(":")[0])
    assert Path(__file__).read_text().splitlines()[line - 1].strip()


def test_a_lab_without_steps_is_broken() -> None:
    ended = end(run_body(no_step))
    assert ended.status == ExitStatus.FAILED
    assert "no step" in ended.error


def test_a_variable_that_a_differing_step_left_unset_is_no_fault_of_the_script() -> None:
    def body(run: Run, alice: Process) -> None:
        listen(run, alice)
        with run.step("again", expect=OK, why="?"):
            second = alice.listen(8080)
        with run.step("close", expect=OK, why="?"):
            second.close()

    ended = end(run_body(body))
    assert ended.status == ExitStatus.DIFFERS
    assert "second" in ended.error


def test_a_refusal_that_the_script_swallows_is_an_outcome_all_the_same() -> None:
    def body(run: Run, alice: Process) -> None:
        listen(run, alice)
        with run.step("again", expect=OK, why="?"), contextlib.suppress(OSError):
            alice.listen(8080)

    events = run_body(body)
    assert str(last_step(events).outcome) == "EADDRINUSE from bind()"
    assert last_step(events).verdict is Verdict.DIFFERS


def test_a_kill_is_shown_and_is_enough_for_a_step() -> None:
    def body(run: Run, alice: Process) -> None:
        with run.step("kill", expect=OK, why="?"):
            alice.kill()

    events = run_body(body)
    assert last_step(events).verdict is Verdict.PASSED
    (killed,) = [event for event in events if isinstance(event, CallMade)]
    assert killed.call == "+++ killed by SIGKILL +++"


def test_a_step_that_failed_is_neither_passed_nor_different() -> None:
    events = run_body(raises_oserror)
    assert last_step(events).verdict is Verdict.FAILED


@pytest.mark.parametrize("first_port", [0, 20_000])
def test_requests_that_an_agent_has_no_time_for_are_asked_again(
    first_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []

    def seven_at_most(host: FakeHost, address: Address, count: int, port: int) -> Tally:
        ports.append(port)
        return request(host, address, min(count, 7), port)

    monkeypatch.setattr(fake_process, "request", seven_at_most)

    def body(run: Run, alice: Process) -> None:
        with run.step("Requests", expect=exactly(20, "refused"), why="Why.") as step:
            answers = alice.request((alice.host.ipv4, 8080), 20, first_port=first_port)
            assert answers.asked == 20
            step.measured(answers.refused)

    assert last_step(run_body(body)).verdict is Verdict.PASSED
    assert ports == [first_port and first_port + made for made in (0, 7, 14)]


def test_waiting_in_vain_says_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labs.engine.waiting.DEADLINE", 0.01)

    def body(run: Run, alice: Process) -> None:
        run.wait_until(lambda: False, "pigs fly")

    assert "pigs fly" in end(run_body(body)).error


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([Verdict.PASSED], ExitStatus.PASSED),
        ([Verdict.PASSED, Verdict.SKIPPED], ExitStatus.PASSED),
        ([Verdict.SKIPPED], ExitStatus.CANNOT_RUN),
        ([Verdict.PASSED, Verdict.DIFFERS, Verdict.SKIPPED], ExitStatus.DIFFERS),
    ],
)
def test_the_status_of_a_run(verdicts: list[Verdict], status: ExitStatus) -> None:
    assert judge(verdicts) is status


# --- a conclusion -------------------------------------------------------------------------


def conclusions(events: list[Event]) -> list[Concluded]:
    return [event for event in events if isinstance(event, Concluded)]


def test_a_conclusion_comes_after_the_steps() -> None:
    def body(run: Run, alice: Process) -> None:
        listen(run, alice)
        run.conclude(Finding.HOLDS, "it was so")

    events = run_body(body)
    assert events[-2:] == [Concluded(Finding.HOLDS, "it was so"), RunEnded(ExitStatus.PASSED)]


def test_where_a_step_differs_nothing_is_concluded() -> None:
    def body(run: Run, alice: Process) -> None:
        with run.step("listen", expect=EADDRINUSE, why="?"):
            alice.listen(8080)
        run.conclude(Finding.HOLDS, "it was so")

    events = run_body(body)
    assert conclusions(events) == []
    assert end(events) == RunEnded(ExitStatus.DIFFERS)


def conclude_first(run: Run, alice: Process) -> None:
    run.conclude(Finding.HOLDS, "it was so")


def conclude_twice(run: Run, alice: Process) -> None:
    listen(run, alice)
    run.conclude(Finding.HOLDS, "it was so")
    run.conclude(Finding.REFUTED, "it was not")


def conclude_inside(run: Run, alice: Process) -> None:
    with run.step("listen", expect=OK, why="?"):
        alice.listen(8080)
        run.conclude(Finding.HOLDS, "it was so")


def go_on_after_it(run: Run, alice: Process) -> None:
    listen(run, alice)
    run.conclude(Finding.HOLDS, "it was so")
    with run.step("again", expect=EADDRINUSE, why="?"):
        alice.listen(8080)


@pytest.mark.parametrize("body", [conclude_first, conclude_twice, conclude_inside, go_on_after_it])
def test_a_conclusion_in_a_wrong_place(body: Callable[[Run, Process], None]) -> None:
    ended = end(run_body(body))
    assert ended.status == ExitStatus.FAILED
    assert "conclusion" in ended.error
    assert f"{__file__}:" in ended.error


def test_whether_something_is_so_is_no_quantity() -> None:
    def body(run: Run, alice: Process) -> None:
        with run.step("It is so", expect=exactly(1, "things"), why="It is.") as step:
            step.measured(alice is not None)

    assert "and not how much of it" in end(run_body(body)).error
