"""Finding labs, and what each must have."""

import sys
from pathlib import Path

import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import ORDER, find_labs
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import Event, RunEnded
from labs.engine.runner import run_lab

LAB = '''
from labs.engine.script import Run, lab

@lab("{name}", title="A title")
def script(run: Run) -> None:
    """Do nothing."""
'''


def write_lab(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "lab.py").write_text(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path / f"trial_labs_{tmp_path.name}"


def test_the_labs_of_the_project() -> None:
    labs = find_labs()
    assert [lab.name for lab in labs] == [*ORDER], "ORDER says where in the course a lab stands"
    for lab in labs:
        assert 20 <= len(lab.title) <= 80
        assert not lab.title.startswith("cannot be loaded")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_lab_has_its_briefs(language: str) -> None:
    for lab in find_labs():
        path = Path(__file__).parents[2] / "labs" / lab.name / f"brief.{language}.md"
        assert path.read_text().startswith(f"# {lab.name}")


def test_briefs_are_in_step() -> None:
    for lab in find_labs():
        folder = Path(__file__).parents[2] / "labs" / lab.name
        shapes = [
            [
                line[:3]
                for line in (folder / f"brief.{language}.md").read_text().splitlines()
                if line.startswith(("#", "1.", "2.", "3.", "4.", "5.", "- "))
            ]
            for language in ("en", "zh")
        ]
        english, chinese = (
            [mark if mark[0] in "#123456789" else "-" for mark in shape] for shape in shapes
        )
        assert [m.split()[0] for m in english] == [m.split()[0] for m in chinese]


def test_labs_come_by_name_when_no_order_is_given(folder: Path) -> None:
    for name in ("zebra", "ant"):
        write_lab(folder, name, LAB.format(name=name))
    assert [lab.name for lab in find_labs(folder, folder.name)] == ["ant", "zebra"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("def x(:", "SyntaxError"),
        ("", "must have one lab"),
        (LAB.format(name="other"), "must have one lab, named broken"),
    ],
)
def test_a_broken_lab_is_listed_and_cannot_be_run(folder: Path, text: str, problem: str) -> None:
    write_lab(folder, "broken", text)
    (broken,) = find_labs(folder, folder.name)
    assert broken.name == "broken"
    assert problem in broken.title
    events: list[Event] = []
    status = run_lab(broken, FakeBackend(), Layout(None), [events.append])
    assert status is ExitStatus.FAILED
    assert isinstance(events[-1], RunEnded)
    assert problem in events[-1].error


def test_a_lab_that_ends_python_is_broken_too(folder: Path) -> None:
    write_lab(folder, "broken", "import sys\n\nsys.exit(0)\n")
    (broken,) = find_labs(folder, folder.name)
    assert "SystemExit" in broken.title
    assert "lab.py:3" in broken.title
