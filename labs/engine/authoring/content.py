"""A lab's content as an author has written it: its script and its challenges, if they load."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs.engine.authoring.problem import Problem, at
from labs.engine.catalogue import LABS, list_challenges, list_labs, load_challenge, load_lab
from labs.engine.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from labs.engine.challenge import Challenge
    from labs.engine.script import Lab


@dataclass(frozen=True)
class Content:
    """A lab and its challenges, as far as they can be loaded.

    `problems` say what cannot be, and which of its names another lab or challenge has too.
    """

    folder: Path
    lab: Lab | None
    challenges: tuple[Challenge, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.folder.name

    @property
    def script(self) -> Path:
        """The lab's script."""
        return self.folder / "lab.py"


def read_contents(folder: Path = LABS, package: str = "labs") -> list[Content]:
    """All labs of a folder, in the order of the course."""
    contents = [read_content(folder / name, f"{package}.{name}") for name in list_labs(folder)]
    holders = defaultdict(list)
    for content in contents:
        holders[content.name].append(content.script)
        for name in list_challenges(content.folder):
            holders[name].append(content.folder / "challenge" / name)
    return [
        replace(content, problems=(*content.problems, *find_twins(content, holders)))
        for content in contents
    ]


def read_content(folder: Path, package: str) -> Content:
    """The lab of a folder, which is this package."""
    problems = []
    lab, challenges = None, []
    try:
        lab = load_lab(folder.name, f"{package}.lab")
    except EngineError as error:
        problems.append(at(folder / "lab.py", f"cannot be loaded: {error.message}"))
    for name in list_challenges(folder):
        try:
            challenges.append(load_challenge(name, package))
        except EngineError as error:
            path = folder / "challenge" / name / "check.py"
            problems.append(at(path, f"cannot be loaded: {error.message}"))
    return Content(folder, lab, tuple(challenges), tuple(problems))


def find_twins(content: Content, holders: dict[str, list[Path]]) -> list[Problem]:
    """The names of a lab's challenges that somebody else has too."""
    return [
        at(path, f"its name is taken by {other}")
        for name in list_challenges(content.folder)
        for path in [content.folder / "challenge" / name]
        for other in holders[name]
        if other != path
    ]
