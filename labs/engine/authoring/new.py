"""`invoke lab.new`: begins a lab, or another challenge of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.authoring.names import find_fault
from labs.engine.authoring.skeleton import PACKAGE, make_challenge, make_lab, make_test
from labs.engine.catalogue import LABS as HERE
from labs.engine.catalogue import list_challenges, list_labs
from labs.engine.errors import ExitStatus, UsageError, standard_output

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGE = ".new-"  # how the name begins of a folder in which something is being made


def make_new(name: str, challenge: str, labs: Path = HERE) -> ExitStatus:
    """Make a lab with a challenge, or where there is the lab a challenge of it.

    Nothing that is there is changed; raises UsageError where something is, or cannot be written.
    """
    if name in list_labs(labs):
        if not challenge:
            raise UsageError(
                f"There is a lab {name} already.",
                f"invoke lab.new {name} --challenge NAME  begins a challenge of it.",
            )
        check_name("challenge", challenge, labs)
        with writing():
            made = [add_challenge(labs / name, challenge)]
    else:
        check_name("lab", name, labs)
        challenge = challenge or f"use_{name}"
        check_name("challenge", challenge, labs)
        if challenge == name:
            raise UsageError(f"The lab and its challenge cannot both be named {name}.")
        with writing():
            made = add_lab(labs / name, challenge)
    tell(made, name, challenge)
    return ExitStatus.PASSED


def check_name(kind: str, name: str, labs: Path) -> None:
    """UsageError for a name that a new lab or challenge cannot have."""
    if fault := find_fault(name):
        raise UsageError(f"No {kind} can be named {name!r}: {fault}.")
    for lab in list_labs(labs):
        if name == lab:
            raise UsageError(f"There is a lab {name} already.")
        if name in list_challenges(labs / lab):
            raise UsageError(f"The lab {lab} has a challenge {name} already.")


def add_lab(folder: Path, challenge: str) -> list[Path]:
    """Make a lab with a challenge, and its test where there are tests; what was made."""
    tests = folder.parent.parent / "tests" / "namespaces"
    made = [folder, *([tests / f"test_{folder.name}.py"] if tests.is_dir() else [])]
    for path in made:
        refuse_existing(path)
    with staging(folder.parent) as stage, contextlib.ExitStack() as unmade:
        make_lab(stage / folder.name, challenge)
        put_challenge(stage / folder.name, challenge)
        for test in made[1:]:
            make_test(test, folder.name)
            unmade.callback(test.unlink)
        (stage / folder.name).rename(folder)
        unmade.pop_all()
    return made


def add_challenge(folder: Path, name: str) -> Path:
    """Make a challenge of the lab in a folder; its own folder."""
    target = folder / "challenge" / name
    refuse_existing(target)
    with staging(folder) as stage:
        put_challenge(stage, name)
        (folder / "challenge").mkdir(exist_ok=True)
        (folder / "challenge" / PACKAGE).touch()
        (stage / "challenge" / name).rename(target)
    return target


def put_challenge(folder: Path, name: str) -> None:
    """Make a challenge in a folder that is being made."""
    make_challenge(folder / "challenge" / name)
    (folder / "challenge" / PACKAGE).touch()


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder beside the place where what is made in it is to be; gone in the end."""
    with tempfile.TemporaryDirectory(prefix=STAGE, dir=folder) as stage:
        yield Path(stage)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """UsageError where something cannot be written."""
    try:
        yield
    except OSError as error:
        where = str(error.filename2 or error.filename or HERE).partition(f"/{STAGE}")[0]
        raise UsageError(
            f"Cannot write {where}: {error.strerror}.",
            "A lab is begun in a clone of your own, which you may change.",
        ) from error


def refuse_existing(path: Path) -> None:
    """UsageError where there is something, be it a link that leads nowhere."""
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already; nothing was made.")


def tell(made: list[Path], lab: str, challenge: str) -> None:
    """Say what was made, and what to do with it."""
    commands = (
        (f"invoke lab.{lab}", "runs the lab"),
        (f"invoke exercise.start {challenge}", "begins its challenge, as a trainee does"),
        (f"invoke lab.check --labs {lab}", "names what is left to do"),
    )
    width = max(len(command) for command, _ in commands)
    lines = [f"made {os.path.relpath(path)}" for path in made]
    lines += ["", *(f"{command:{width}}  {does}" for command, does in commands)]
    lines += ["", "It works as it is. Write it anew where it says TODO: docs/writing-a-lab.md."]
    standard_output().write("\n".join(lines) + "\n")
