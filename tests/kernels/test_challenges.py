"""A trainee's program on a kernel of its own: judged inside, by the same check."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from labs.engine.catalogue import find_challenge
from labs.engine.errors import EngineError, ExitStatus
from labs.engine.kernels.boot import booting
from labs.engine.kernels.catalogue import choose_known, find_kernel
from labs.engine.model import Advised, RunStarted
from tests.support import run

if TYPE_CHECKING:
    from pathlib import Path

    from labs.engine.agent import Message
    from labs.engine.model import Event

pytestmark = pytest.mark.kernels

NAMES = [known.name for known in choose_known("uml")]
CHALLENGE = find_challenge("drop")


def work_folder(folder: Path, source: Path) -> Path:
    folder.mkdir()
    shutil.copy2(source, folder / "program.py")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_program_is_judged_inside(name: str, tmp_path: Path) -> None:
    wrong = CHALLENGE.folder / "wrong" / "refused.py"
    cases = [(CHALLENGE.solution, ExitStatus.PASSED), (wrong, ExitStatus.UNSOLVED)]
    with booting(find_kernel(name)) as guest:
        guest.wait_until_ready()
        for source, expected in cases:
            events: list[Event] = []
            folder = work_folder(tmp_path / source.stem, source)
            request: Message = {"challenge": "drop", "folder": str(folder)}
            assert guest.run(request, 5, events.append) is expected
            assert isinstance(events[0], RunStarted)
            assert (events[0].machine, events[0].seed) == ("uml", 5)
            assert events[0].kernel.startswith(f"{name}.")
            advice = [event.name for event in events if isinstance(event, Advised)]
            assert advice == ([] if expected is ExitStatus.PASSED else ["refused"])


def test_what_is_no_submission_is_said_by_the_guest(tmp_path: Path) -> None:
    with booting(find_kernel(NAMES[-1])) as guest:
        guest.wait_until_ready()
        request: Message = {"challenge": "drop", "folder": str(tmp_path)}
        with pytest.raises(EngineError, match="There is no program in"):
            guest.run(request, None, lambda _: None)


def test_the_command_checks_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "work"
    assert run("exercise.start", "drop", "--folder", str(folder)).status == 0
    shutil.copy2(CHALLENGE.solution, folder / "program.py")
    done = run("exercise.check", "drop", "--kernel", NAMES[-1])
    assert done.status == 0, done.text
    assert f"Linux {NAMES[-1]}." in done.output
    assert "Solved." in done.output
