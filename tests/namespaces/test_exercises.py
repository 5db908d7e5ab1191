"""The loop of a trainee: start, check, hint, solution, reset, progress, watch; what goes wrong."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from labs.engine.catalogue import find_challenge
from tests.support import Finished, new_token, open_terminal, run

pytestmark = pytest.mark.namespaces

CHALLENGE = find_challenge("drop")


@dataclass(frozen=True)
class Trainee:
    """Somebody with a home folder of their own."""

    home: Path

    @property
    def work(self) -> Path:
        return self.home / "bindlab" / "drop"

    @property
    def program(self) -> Path:
        return self.work / "program.py"

    @property
    def progress(self) -> Path:
        return self.home / ".local" / "state" / "bindlab" / "progress.json"

    def do(self, command: str, *arguments: str) -> Finished:
        return run(f"exercise.{command}", *arguments, HOME=str(self.home))

    def write(self, source: Path) -> None:
        """Save a program as an editor does: aside, then renamed."""
        aside = self.work / ".aside"
        shutil.copy2(source, aside)
        aside.rename(self.program)

    def entry(self) -> dict[str, object]:
        entry: dict[str, object] = json.loads(self.progress.read_text())["exercises"]["drop"]
        return entry


@pytest.fixture
def trainee(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainee:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Trainee(tmp_path)


@pytest.fixture
def started(trainee: Trainee) -> Trainee:
    assert trainee.do("start", "drop").status == 0
    return trainee


@pytest.mark.parametrize("language", ["en", "zh"])
def test_from_start_to_pass(trainee: Trainee, language: str) -> None:
    said = ("--lang", language)
    start = trainee.do("start", "drop", *said)
    assert start.status == 0, start.text
    task = CHALLENGE.task(language).read_text().splitlines()[0].removeprefix("# ")
    assert task in start.output
    assert str(trainee.program) in start.output
    assert os.access(trainee.program, os.X_OK)

    untouched = trainee.do("check", "drop", *said)
    assert untouched.status == 4, untouched.text
    assert "drop" in untouched.output

    trainee.write(CHALLENGE.folder / "wrong" / "again.py")
    wrong = trainee.do("check", "drop", *said)
    assert wrong.status == 4, wrong.text
    assert ("Hint: " if language == "en" else "提示：") in wrong.output

    hints = [trainee.do("hint", "drop", *said).output for _ in range(4)]
    assert hints[0] in hints[1] or len(hints[1]) > len(hints[0])
    assert hints[2] == hints[3]  # there are three
    assert trainee.do("solution", "drop", *said).status == 2

    trainee.write(CHALLENGE.solution)
    solved = trainee.do("check", "drop", *said)
    assert solved.status == 0, solved.text
    assert CHALLENGE.why(language).read_text().splitlines()[0].removeprefix("## ") in solved.output

    shown = trainee.do("solution", "drop", *said)
    assert shown.status == 0
    assert "seteuid" in shown.output
    progress = trainee.do("progress", *said)
    assert progress.status == 0
    assert ("solved" if language == "en" else "已解决") in progress.output
    entry = trainee.entry()
    assert (entry["checks"], entry["hints"], bool(entry["passed"])) == (2, 3, True)


def test_the_record_and_the_report_are_written(started: Trainee, tmp_path: Path) -> None:
    started.write(CHALLENGE.folder / "wrong" / "refused.py")
    record, report = tmp_path / "record.json", tmp_path / "report.xml"
    done = started.do("check", "drop", "--json", str(record), "--junit", str(report))
    assert done.status == 4, done.text
    (recorded,) = json.loads(record.read_text())["runs"]
    assert recorded["status"] == 4
    assert recorded["steps"][-1]["advice"]["name"] == "refused"
    assert 'failures="1"' in report.read_text()


def test_a_start_leaves_what_is_there(started: Trainee) -> None:
    started.write(CHALLENGE.solution)
    again = started.do("start", "drop", "--seed", "7")
    assert again.status == 0
    assert started.program.read_bytes() == CHALLENGE.solution.read_bytes()
    assert started.entry()["seed"] == 7


def test_a_seed_is_another_exercise_and_always_the_same(trainee: Trainee) -> None:
    def run_with(seed: str) -> str:
        trainee.do("start", "drop", "--seed", seed)
        trainee.write(CHALLENGE.solution)
        done = trainee.do("check", "drop", "--json", "-")
        assert done.status == 0, done.text
        (recorded,) = json.loads(done.output)["runs"]
        return str(recorded["steps"][0]["calls"][0]["call"])

    assert run_with("5") == run_with("5") != run_with("6")


def test_a_reset_keeps_what_was_there(started: Trainee) -> None:
    for number, source in enumerate((CHALLENGE.solution, CHALLENGE.wrong[0]), 1):
        started.write(source)
        done = started.do("reset", "drop")
        assert done.status == 0, done.text
        assert started.program.read_bytes() == CHALLENGE.template.read_bytes()
        kept = started.work / f"before-reset-{number}.py"
        assert str(kept) in done.output
        assert kept.read_bytes() == source.read_bytes()


def test_a_reset_takes_a_program_of_any_ending_away(started: Trainee) -> None:
    started.program.rename(started.work / "program")
    assert started.do("reset", "drop").status == 0
    assert sorted(path.name for path in started.work.iterdir()) == ["before-reset-1", "program.py"]


def test_notes_are_no_program(trainee: Trainee) -> None:
    trainee.work.mkdir(parents=True)
    (trainee.work / "programming-notes.txt").write_text("to do")
    assert str(trainee.program) in trainee.do("start", "drop").output
    assert trainee.program.exists()


@pytest.mark.ordinary_only
@pytest.mark.parametrize("command", ["start", "check", "hint", "solution", "reset"])
@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_folder_that_does_not_let_one_in(started: Trainee, command: str, mode: int) -> None:
    started.write(CHALLENGE.solution)
    for folder in (started.work, started.work.parent, started.progress.parent):
        before = folder.stat().st_mode
        folder.chmod(mode)
        try:
            done = started.do(command, "drop")
        finally:
            folder.chmod(before)
        assert "Traceback" not in done.text, done.text
        assert done.status in (0, 2, 4), done.text


def test_another_folder_is_remembered(trainee: Trainee, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    assert trainee.do("start", "drop", "--folder", str(folder)).status == 0
    shutil.copy2(CHALLENGE.solution, folder / "program.py")
    assert trainee.do("check", "drop").status == 0


# --- when things go wrong -------------------------------------------------------------------


def spoil_folder(trainee: Trainee) -> None:
    shutil.rmtree(trainee.work)


def spoil_program(trainee: Trainee) -> None:
    trainee.program.unlink()


def spoil_mode(trainee: Trainee) -> None:
    trainee.program.chmod(0o644)


def spoil_by_another(trainee: Trainee) -> None:
    shutil.copy2(trainee.program, trainee.work / "program.sh")


@pytest.mark.parametrize(
    ("spoil", "words", "hint"),
    [
        (spoil_folder, "is gone", "invoke exercise.start drop"),
        (spoil_program, "There is no program in", "named program"),
        (spoil_mode, "cannot be executed", "chmod +x"),
        (spoil_by_another, "has several programs", "chmod -x"),
    ],
)
def test_what_is_no_program_is_said(
    started: Trainee, spoil: Callable[[Trainee], None], words: str, hint: str
) -> None:
    spoil(started)
    for command in ("check", "watch"):
        done = started.do(command, "drop")
        assert done.status == 2, done.text
        assert words in done.errors
        assert hint in done.errors
        assert "Traceback" not in done.text


@pytest.mark.parametrize("command", ["start", "check", "watch", "hint", "solution", "reset"])
def test_an_exercise_that_there_is_not_is_a_usage_error(trainee: Trainee, command: str) -> None:
    done = trainee.do(command, "nonsense")
    assert done.status == 2
    assert "There is no exercise nonsense." in done.errors
    assert "drop" in done.errors


@pytest.mark.parametrize("command", ["check", "watch", "hint", "solution", "reset"])
def test_one_that_was_not_started_is_a_usage_error(trainee: Trainee, command: str) -> None:
    done = trainee.do(command, "drop")
    assert done.status == 2
    assert "invoke exercise.start drop" in done.errors


def test_two_checks_at_once(started: Trainee) -> None:
    started.write(CHALLENGE.solution)
    descriptor = os.open(started.work, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        done = started.do("check", "drop")
    finally:
        os.close(descriptor)
    assert done.status == 2
    assert "Another check of drop is at work." in done.errors
    assert started.do("check", "drop").status == 0


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": 2, "exercises": {}}', '{"version": 1, "exercises": {"drop": 1}}'],
)
def test_progress_that_cannot_be_read_is_kept_and_said(started: Trainee, content: str) -> None:
    started.progress.write_text(content)
    for command in (("check", "drop"), ("start", "drop"), ("hint", "drop"), ("progress",)):
        done = started.do(*command)
        assert done.status == 2, done.text
        assert str(started.progress) in done.errors
        assert "mv " in done.errors
        assert started.progress.read_text() == content


def test_a_state_folder_that_cannot_be_written(
    trainee: Trainee, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    done = trainee.do("start", "drop")
    assert done.status == 2
    assert "Cannot keep progress" in done.errors


def test_a_locale_without_utf_8(started: Trainee, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    for command in (("start", "drop"), ("progress",), ("check", "drop")):
        done = started.do(*command)
        assert done.status in (0, 4), done.text
        assert "Traceback" not in done.text
        refused = started.do(*command, "--lang", "zh")
        assert refused.status == 2
        assert "LC_ALL=C.UTF-8" in refused.errors


# --- watch ------------------------------------------------------------------------------------


def test_watch_checks_at_every_save_until_it_passes(started: Trainee) -> None:
    with open_terminal("exercise.watch", "drop", token=new_token()) as terminal:
        terminal.read_until("still as it was given")
        terminal.read_until("Waiting for the next save")
        started.write(CHALLENGE.folder / "wrong" / "refused.py")
        terminal.read_until("Hint: ")
        terminal.read_until("Waiting for the next save")
        started.program.chmod(0o644)
        terminal.read_until("cannot be executed")
        terminal.read_until("Waiting for the next save")
        started.write(CHALLENGE.solution)
        terminal.read_until("Solved")
        assert terminal.wait() == 0


def test_watch_ends_by_control_c(started: Trainee) -> None:
    with open_terminal("exercise.watch", "drop", token=new_token()) as terminal:
        terminal.read_until("Waiting for the next save")
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.output


# --- grade ------------------------------------------------------------------------------------


@pytest.fixture
def submissions(tmp_path: Path) -> Path:
    folder = tmp_path / "submissions"
    sources = {
        "mia": CHALLENGE.solution,
        "tom": CHALLENGE.folder / "wrong" / "refused.py",
        "李雷": CHALLENGE.template,
    }
    for learner, source in sources.items():
        place = folder / learner / "drop"
        place.mkdir(parents=True)
        shutil.copy2(source, place / "program.py")
    (folder / "eve" / "drop").mkdir(parents=True)
    return folder


def test_a_folder_is_graded(submissions: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = run("exercise.grade", str(submissions), "--junit", str(report))
    assert done.status == 4, done.text
    document = json.loads((submissions / "grades.json").read_text())
    rows = {row["learner"]: row for row in document["rows"]}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "mia": "pass",
        "tom": "unsolved",
        "eve": "unsolved",
        "李雷": "unsolved",
    }
    assert rows["tom"]["advice"] == "refused"
    assert "There is no program" in rows["eve"]["text"]
    sheet = (submissions / "grades.csv").read_text().splitlines()
    assert sheet[0].startswith("learner,exercise,verdict,")
    assert len(sheet) == 5
    assert 'tests="4" failures="3" errors="0" skipped="0"' in report.read_text()
    # The tables of before are no submissions.
    assert run("exercise.grade", str(submissions)).status == 4


def test_nobody_is_left_out_of_the_grades(submissions: Path) -> None:
    (submissions / "dora" / "Drop").mkdir(parents=True)
    os.symlink(submissions / "mia", submissions / "bea")
    strange = submissions / os.fsdecode(b"b\xff\x1b[31m") / "drop"
    strange.mkdir(parents=True)
    shutil.copy2(CHALLENGE.solution, strange / "program.py")
    (submissions / "=sum" / "drop").mkdir(parents=True)
    done = run("exercise.grade", str(submissions))
    assert done.status == 4, done.text
    assert "Traceback" not in done.text
    assert "\x1b" not in done.output
    rows = {
        row["learner"]: row for row in json.loads((submissions / "grades.json").read_text())["rows"]
    }
    assert len(rows) == 8
    assert rows["dora"]["verdict"] == rows["bea"]["verdict"] == "unsolved"
    assert "link" in rows["bea"]["text"]
    assert rows[r"b\udcff\x1b[31m"]["verdict"] == "pass"
    assert "'=sum" in rows


def test_files_of_one_exercise_are_graded(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    for number in range(3):
        shutil.copy(CHALLENGE.solution, folder / f"learner{number}.py")
    done = run("exercise.grade", str(folder), "--jobs", "3", "--seed", "4")
    assert done.status == 0, done.text
    assert "3 submissions" in done.output
    assert "3 pass" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "There is no folder nowhere."),
        ((".",), "There is no submission in"),
        ((".", "--name", "nonsense"), "There is no exercise nonsense."),
        ((".", "--jobs", "0"), "--jobs takes a number"),
    ],
)
def test_what_cannot_be_graded_is_a_usage_error(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    place = str(tmp_path) if arguments[0] == "." else arguments[0]
    done = run("exercise.grade", place, *arguments[1:])
    assert done.status == 2, done.text
    assert words in done.errors


def test_a_grading_that_is_interrupted_leaves_no_table(submissions: Path) -> None:
    for number in range(6):
        shutil.copytree(submissions / "tom", submissions / f"more{number}")
        hanging = submissions / f"more{number}" / "drop" / "program.py"
        hanging.write_text("#!/bin/sh\nsleep 100\n")
    with open_terminal("exercise.grade", str(submissions), token=new_token()) as terminal:
        terminal.read_until("1/10")
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.output
    assert not list(submissions.glob("grades*"))
