"""The pictures and the gallery that docs keep are what the labs draw today, but for numbers."""

import difflib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from labs.engine.catalogue import LABS, list_labs
from tests.skeletons import masked, skeleton_of
from tests.support import ROOT, copy_tree, need_program, run

pytestmark = [pytest.mark.namespaces, pytest.mark.alike]

DOCS = ROOT / "docs"
RENEW = "invoke docs.pictures renews them"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for program in ("nginx", "haproxy", "gunicorn", "curl"):
        need_program(program)
    folder = tmp_path_factory.mktemp("docs")
    done = run("docs.pictures", "--output", str(folder), seconds=300)
    assert (done.status, done.errors) == (0, "")
    return folder


def check(name: str, kept: Sequence[str], drawn: Sequence[str]) -> None:
    changes = "\n".join(difflib.unified_diff(kept, drawn, "kept", "drawn", lineterm="", n=0))
    assert not changes, f"docs/{name} is not current: {RENEW}.\n{changes}"


@pytest.mark.parametrize("lab", list_labs(LABS))
def test_a_kept_picture_is_current(lab: str, drawn: Path) -> None:
    name = f"pictures/{lab}.svg"
    kept, now = ((folder / name).read_text() for folder in (DOCS, drawn))
    check(name, skeleton_of(kept), skeleton_of(now))


@pytest.mark.parametrize("name", ["gallery.md", "gallery.zh.md"])
def test_a_kept_gallery_is_current(name: str, drawn: Path) -> None:
    kept, now = (masked((folder / name).read_text()).splitlines() for folder in (DOCS, drawn))
    check(name, kept, now)


def test_nothing_else_is_kept(drawn: Path) -> None:
    names = {path.name for path in (DOCS / "pictures").iterdir()}
    assert names == {path.name for path in (drawn / "pictures").iterdir()}, RENEW


def test_another_picture_is_another_skeleton() -> None:
    picture = (DOCS / "pictures" / "euid.svg").read_text()
    skeleton = skeleton_of(picture)
    assert skeleton_of(picture.replace("EADDRINUSE", "EACCES")) != skeleton
    assert skeleton_of(picture.replace('class="cross"', 'class="accepted"')) != skeleton
    assert skeleton_of(picture.replace("8080", "8081")) == skeleton
    assert len(skeleton) > 20


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the command consists of, with two labs alone."""
    copy_tree(tmp_path)
    for name in list_labs(tmp_path / "labs"):
        if name not in ("unique", "fork"):
            shutil.rmtree(tmp_path / "labs" / name)
    return tmp_path


def test_a_lab_that_differs_gives_no_picture(clone: Path) -> None:
    script = clone / "labs" / "unique" / "lab.py"
    script.write_text(script.read_text().replace("expect=EADDRINUSE", "expect=OK", 1))
    done = run("docs.pictures", "--output", str(clone / "docs"), folder=clone)
    assert done.status == 125
    assert "no picture of the lab unique" in done.errors
    assert "invoke lab.unique" in done.errors
    assert not (clone / "docs").exists()


def test_a_lab_without_a_scene_is_named(clone: Path) -> None:
    (clone / "labs" / "fork").rename(clone / "labs" / "spoon")
    script = clone / "labs" / "spoon" / "lab.py"
    script.write_text(script.read_text().replace('"fork",', '"spoon",', 1))
    done = run("docs.pictures", "--output", str(clone / "docs"), folder=clone)
    assert done.status == 70
    assert "which step of spoon" in done.errors
    assert "scenes.py" in done.errors


def test_a_folder_that_cannot_be_written(clone: Path) -> None:
    (clone / "docs").touch()
    done = run("docs.pictures", "--output", str(clone / "docs"), folder=clone)
    assert done.status == 70
    assert "Cannot write to" in done.errors
    assert "Traceback" not in done.errors
