"""The skeletons of a lab, a challenge and a test: files that run, to be written anew."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SKELETONS = Path(__file__).with_name("skeletons")
ENDING = ".in"
TEST = SKELETONS / f"test.py{ENDING}"
PACKAGE = "__init__.py"  # in each folder but that of wrong programs, which nobody imports
APART = "wrong"


def make_lab(folder: Path, challenge: str) -> None:
    """Make the folder of a lab, named for it; its challenge is yet to be made. Raises OSError."""
    fill(folder, SKELETONS / "lab", {"lab": folder.name, "challenge": challenge})


def make_challenge(folder: Path) -> None:
    """Make the folder of a challenge, named for it; raises OSError."""
    fill(folder, SKELETONS / "challenge", {"challenge": folder.name})


def make_test(path: Path, lab: str) -> None:
    """Make the test of a lab; raises OSError, FileExistsError where there is one."""
    write(path, Template(TEST.read_text(encoding="utf-8")).substitute(lab=lab))


def fill(folder: Path, skeleton: Path, names: Mapping[str, str]) -> None:
    """Make a folder like that of a skeleton, its names in their places."""
    for source, content in read(skeleton):
        path = folder / source
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name != APART:
            (path.parent / PACKAGE).touch()
        write(path, Template(content).substitute(names))


def read(skeleton: Path) -> Iterator[tuple[Path, str]]:
    """The files of a skeleton: where each is to be, and what is to be in it."""
    for path in sorted(skeleton.rglob(f"*{ENDING}")):
        target = path.relative_to(skeleton).with_suffix("")
        yield target, path.read_text(encoding="utf-8")


def write(path: Path, content: str) -> None:
    """Write a file that is not there yet; it can be executed where its first line says how."""
    with path.open("x", encoding="utf-8") as file:
        file.write(content)
    if content.startswith("#!"):
        mode = path.stat().st_mode
        path.chmod(mode | (mode & 0o444) >> 2)
