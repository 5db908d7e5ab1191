"""However a run inside a kernel of its own is ended, no guest is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from signal import SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING

import pytest

from labs.engine.kernels.catalogue import choose_known
from tests.endings import (
    INTERRUPTED,
    SUMMARY,
    Course,
    Trial,
    Trials,
    check_interrupted,
    check_killed,
    ended_in_a_pause,
    interrupted,
    killed,
)
from tests.support import copy_tree, look, new_token, open_terminal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.kernels

AT_A_TIME = 2
KILLS = 16
MOMENTS = 6
# Those of the old kernels would live on, if it was for themselves (up to 6.12).
KERNELS = [known.name for known in choose_known("uml")]
OLD, NEW = KERNELS[1], KERNELS[-1]


@dataclass
class KernelTrial(Trial):
    """A run inside a kernel."""

    kernel: str = NEW

    def options(self) -> tuple[str, ...]:
        return ("--kernel", self.kernel)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def course(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("course")
    return Trials(partial(KernelTrial, tree), folder, AT_A_TIME).measure()


def trials_of(kernel: str, tree: Path, folder: Path) -> Trials:
    return Trials(partial(KernelTrial, tree, kernel=kernel), folder, AT_A_TIME)


def test_a_guest_that_lives_is_seen(tree: Path, tmp_path: Path) -> None:
    """What the other tests find nothing of would be found."""
    trial = KernelTrial(tree, tmp_path)
    arguments = ("lab.euid", "--kernel", NEW, "--pause")
    with open_terminal(*arguments, token=trial.token, folder=tree) as terminal:
        terminal.read_until("Enter goes on")
        seen = look(trial.token, trial.folders).beyond(trial.before)
        assert [name for name in seen["processes"] if name.split()[1].startswith("linux")]
        kinds = {namespace.partition(":")[0] for namespace in seen["namespaces"]}
        assert kinds >= {"pid", "mnt", "net", "ipc"}
        terminal.type("\x03")
        assert terminal.wait() == INTERRUPTED
    assert trial.wait_for_nothing() == {}


@pytest.mark.parametrize("kernel", [OLD, NEW])
def test_sigkill_leaves_no_guest(kernel: str, tree: Path, tmp_path: Path, course: Course) -> None:
    check_killed(trials_of(kernel, tree, tmp_path).end(killed(course), KILLS))


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_leaves_no_guest(
    number: Signals, tree: Path, tmp_path: Path, course: Course
) -> None:
    check_interrupted(trials_of(NEW, tree, tmp_path).end(interrupted(course, number), MOMENTS))


def test_control_c_in_a_pause_leaves_no_guest(tree: Path, tmp_path: Path) -> None:
    ending = ended_in_a_pause(KernelTrial(tree, tmp_path), 0.0)
    check_interrupted([ending], always_early=True)


def test_enter_goes_on_in_a_pause(tree: Path) -> None:
    arguments = ("lab.euid", "--kernel", NEW, "--pause")
    with open_terminal(*arguments, token=new_token(), folder=tree) as terminal:
        for _ in range(18):
            terminal.read_until("Enter goes on, Ctrl-C ends: ")
            terminal.type("\r")
        terminal.read_until(SUMMARY)
        assert terminal.wait() == 0
    assert "nsenter" not in terminal.output


# --- a question ---------------------------------------------------------------------------


def test_predictions_are_asked_for_while_the_guest_waits(tree: Path) -> None:
    arguments = ("lab.timewait", "--kernel", NEW, "--predict")
    with open_terminal(*arguments, token=new_token(), folder=tree) as terminal:
        for answer in ("1", "60", "EADDRINUSE", "EADDRINUSE"):
            terminal.read_until(r"What will it come to\? $|How many [^?]+\? $")
            assert ", observed " not in terminal.output
            terminal.type(f"{answer}\r")
        for _ in range(4):
            terminal.read_until("you said: .*, right\n")
        terminal.read_until(r"How many TIME_WAIT on the client's host\? $")
        terminal.type("\x04")
        terminal.read_until(SUMMARY)
        terminal.read_until("predictions: 4 of 4 right\n")
        assert terminal.wait() == 0


def test_control_c_at_a_question_leaves_no_guest(tree: Path, tmp_path: Path) -> None:
    trial = KernelTrial(tree, tmp_path)
    arguments = ("lab.euid", "--kernel", NEW, "--predict")
    with open_terminal(*arguments, token=trial.token, folder=tree) as terminal:
        terminal.read_until(r"What will it come to\? $")
        terminal.type("\x03")
        assert terminal.wait() == INTERRUPTED
    assert "Traceback" not in terminal.output
    assert trial.wait_for_nothing() == {}
