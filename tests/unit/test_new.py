"""lab.new: which names it takes, what it makes, and that it leaves alone what is there."""

import os
import re
import stat
from pathlib import Path

import pytest

from labs.engine.authoring.names import COMMANDS
from labs.engine.authoring.new import make_new
from labs.engine.catalogue import find_labs
from labs.engine.errors import ExitStatus, UsageError
from tests.support import list_files, run

WHOLE = {
    "__init__.py",
    "lab.py",
    "brief.en.md",
    "brief.zh.md",
    "zh.po",
    "challenge/__init__.py",
}
CHALLENGE = {
    "__init__.py",
    "check.py",
    "zh.po",
    "task.en.md",
    "task.zh.md",
    "why.en.md",
    "why.zh.md",
    "template.py",
    "solution.py",
    "wrong/alone.py",
    "wrong/local.py",
}


@pytest.fixture
def labs(tmp_path: Path) -> Path:
    """The labs of a clone that has tests, and no lab."""
    (tmp_path / "tests" / "namespaces").mkdir(parents=True)
    folder = tmp_path / "labs"
    folder.mkdir()
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_lab_is_made_whole(labs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_new("harbour", "", labs) is ExitStatus.PASSED
    assert os.listdir(labs) == ["harbour"]
    challenge = "challenge/use_harbour"
    made = files(labs / "harbour")
    assert made == WHOLE | {f"{challenge}/{name}" for name in CHALLENGE}
    assert files(labs.parent / "tests") == {"namespaces/test_harbour.py"}
    output = capsys.readouterr().out
    assert "invoke lab.harbour " in output
    assert "invoke exercise.start use_harbour " in output
    for name in made:
        path = labs / "harbour" / name
        is_program = path.read_text().startswith("#!")
        assert bool(path.stat().st_mode & stat.S_IXUSR) == is_program
        assert "$" not in path.read_text().replace("@server$ ", "")  # a shell's prompt


def test_a_challenge_is_named(labs: Path) -> None:
    make_new("harbour", "moor", labs)
    assert os.listdir(labs / "harbour" / "challenge" / "moor")


def test_a_lab_gets_another_challenge(labs: Path) -> None:
    make_new("harbour", "moor", labs)
    before = {path: path.read_bytes() for path in labs.rglob("*") if path.is_file()}
    assert make_new("harbour", "weigh", labs) is ExitStatus.PASSED
    assert files(labs / "harbour" / "challenge" / "weigh") == CHALLENGE
    after = {path: path.read_bytes() for path in labs.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + len(CHALLENGE)


def test_a_lab_without_a_challenge_gets_its_first(labs: Path) -> None:
    (labs / "old").mkdir()
    (labs / "old" / "lab.py").touch()
    make_new("old", "moor", labs)
    assert files(labs / "old" / "challenge") == {"__init__.py", *(f"moor/{n}" for n in CHALLENGE)}


@pytest.mark.parametrize(
    ("name", "challenge", "message"),
    [
        ("there", "", "There is a lab there already"),
        ("there", "moor", "The lab there has a challenge moor already"),
        ("there", "there", "There is a lab there already"),
        ("moor", "", "The lab there has a challenge moor already"),
        ("other", "there", "There is a lab there already"),
        ("other", "moor", "The lab there has a challenge moor already"),
        ("other", "other", "cannot both be named other"),
        ("new", "", "invoke lab.new is a command"),
        ("check", "", "invoke lab.check is a command"),
        ("engine", "", "labs/engine is what runs the labs"),
        ("Other", "", "a name is up to 32 of a-z"),
        ("two-words", "", "a name is up to 32 of a-z"),
        ("../up", "", "a name is up to 32 of a-z"),
        ("", "", "a name is up to 32 of a-z"),
        ("_other", "", "a name is up to 32 of a-z"),
        ("ä", "", "a name is up to 32 of a-z"),
        ("other\n", "", "a name is up to 32 of a-z"),
        ("x" * 33, "", "a name is up to 32 of a-z"),
        ("class", "", "a word of Python's"),
        ("open", "", "a word of Python's"),
        ("lab", "", "a word of Python's or of a script's"),
        ("other", "challenge", "a word of Python's or of a script's"),
        ("other", "Moor", "No challenge can be named 'Moor'"),
        ("other", "../moor", "No challenge can be named"),
        ("tested", "", "test_tested.py is there already"),
        ("taken", "", "taken is there already"),
        ("linked", "", "linked is there already"),
        ("there", "half", "half is there already"),
    ],
)
def test_some_cannot_be_made(name: str, challenge: str, message: str, labs: Path) -> None:
    make_new("there", "moor", labs)
    (labs.parent / "tests" / "namespaces" / "test_tested.py").touch()
    (labs / "taken").mkdir()
    (labs / "linked").symlink_to("nowhere")
    (labs / "there" / "challenge" / "half").mkdir()
    before = sorted(list_files(labs.parent))
    with pytest.raises(UsageError) as caught:
        make_new(name, challenge, labs)
    assert message in caught.value.message
    assert sorted(list_files(labs.parent)) == before


def test_what_stops_in_the_middle_leaves_nothing(
    labs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "rename", fail)
    before = sorted(list_files(labs.parent))
    with pytest.raises(UsageError, match=r"Cannot write .*: No space left on device"):
        make_new("harbour", "", labs)
    assert sorted(list_files(labs.parent)) == before


def test_what_cannot_be_written_is_named(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, *_: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(UsageError) as caught:
        make_new("harbour", "", labs)
    assert caught.value.message == f"Cannot write {labs}: Permission denied."


def test_the_commands_are_those_of_tasks() -> None:
    listed = set(re.findall(r"lab\.(\w+)", run("--list").output))
    assert listed - {lab.name for lab in find_labs()} == set(COMMANDS)
