"""Things done side by side: what comes of each, however its process ends."""

import os
import signal
import time

import pytest

from labs.engine.errors import BindlabError, EngineError, UsageError
from labs.engine.jobs import work_off
from tests.support import wait_until


def double(number: int) -> int:
    return 2 * number


def misbehave(how: str) -> str:
    match how:
        case "usage":
            raise UsageError("Not so.", "But so.")
        case "fault":
            raise ValueError("unthought of")
        case "exit":
            raise SystemExit(3)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(60)
    return how


def test_all_are_done_and_each_answers_for_itself() -> None:
    found = dict(work_off(range(20), double, at_once=3, seconds=10))
    assert found == {number: 2 * number for number in range(20)}


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("usage", UsageError, "Not so."),
        ("fault", EngineError, "ValueError: unthought of"),
        ("exit", EngineError, "has died"),
        ("die", EngineError, "has died"),
        ("hang", EngineError, "longer than 0.3 seconds"),
    ],
)
def test_what_goes_wrong_is_that_one_s(how: str, kind: type[BindlabError], words: str) -> None:
    found = dict(work_off([how, "well"], misbehave, at_once=2, seconds=0.3))
    assert found["well"] == "well"
    error = found[how]
    assert isinstance(error, kind)
    assert words in error.message


def test_an_error_keeps_its_hint() -> None:
    ((_, error),) = work_off(["usage"], misbehave, at_once=1, seconds=10)
    assert isinstance(error, UsageError)
    assert error.hint == "But so."


def test_who_goes_early_leaves_nobody_at_work() -> None:
    def pids() -> set[int]:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            return {int(pid) for pid in children.read().split()}

    before = pids()
    some = work_off(["well", "hang", "hang"], misbehave, at_once=3, seconds=60)
    next(some)
    assert len(pids() - before) == 2
    some.close()
    wait_until(lambda: pids() <= before, "the workers are gone")
