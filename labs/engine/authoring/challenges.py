"""What a challenge has to have: its pages, its hints, and programs of each kind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from labs.engine.authoring.names import find_fault
from labs.engine.authoring.pages import check_pages
from labs.engine.authoring.problem import Problem, at
from labs.engine.authoring.proof import name_of_advice
from labs.engine.trial import OF_ANY_PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from labs.engine.challenge import Challenge

HINTS = 2  # at least, so that the first need not say all
MISTAKES = 2  # wrong programs, at least


def check_challenge(challenge: Challenge) -> Iterator[Problem]:
    """What a challenge lacks."""
    if fault := find_fault(challenge.name):
        yield at(challenge.folder, f"no challenge can be named {challenge.name}: {fault}")
    for stem in ("task", "why"):
        yield from check_pages(challenge.folder, stem)
    yield from check_hints(challenge)
    yield from check_wrong(challenge)
    yield from check_programs([challenge.template, challenge.solution, *challenge.wrong])


def check_hints(challenge: Challenge) -> Iterator[Problem]:
    """Its hints say more and more, in steps."""
    script = challenge.folder / "check.py"
    if isinstance(challenge.hints, str):
        yield at(script, "its hints are one text: several in parentheses, with commas, are meant")
    elif len(set(challenge.hints)) < HINTS:
        count = len(set(challenge.hints))
        yield at(script, f"needs at least {HINTS} hints, each saying more, has {count or 'none'}")


def check_wrong(challenge: Challenge) -> Iterator[Problem]:
    """Mistakes are shown, each named for the advice that it is to get."""
    folder = challenge.folder / "wrong"
    count = len(challenge.wrong)
    if count < MISTAKES:
        yield at(folder, f"needs at least {MISTAKES} wrong programs, has {count or 'none'}")
    for path in challenge.wrong:
        name = name_of_advice(path)
        if name not in (*challenge.advice, *OF_ANY_PROGRAM):
            yield at(path, f"it is named for the advice {name}, which the check has not")


def check_programs(paths: list[Path]) -> Iterator[Problem]:
    """Each program is there, can be executed, and is unlike the others."""
    contents: dict[bytes, Path] = {}
    for path in paths:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            yield at(path, "missing")
            continue
        except OSError as error:
            yield at(path, f"cannot be read: {error.strerror}")
            continue
        if not content.startswith(b"#!"):
            yield at(path, "its first line does not begin with #!", 1)
        if not os.stat(path).st_mode & 0o100:
            yield at(path, f"not executable: chmod +x '{path}'")
        if content in contents:
            yield at(path, f"the same program as {contents[content].name}")
        contents.setdefault(content, path)
