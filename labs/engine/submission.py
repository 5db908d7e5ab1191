"""A submission: the program of a work folder, with what belongs to it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "program"  # the name of the program to be run, whatever comes after a dot
MOST_FILES = 200
MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class File:
    """A file below the folder: its path there, what is in it, and whether it is to be executed."""

    path: str
    content: bytes
    is_executable: bool


@dataclass(frozen=True)
class Submission:
    """A program and the files beside it; `program` is its path in the folder."""

    folder: Path
    program: str
    files: tuple[File, ...]

    @property
    def content(self) -> bytes:
        """What the program's file has in it."""
        return next(file.content for file in self.files if file.path == self.program)


def read_submission(folder: Path) -> Submission:
    """What a work folder has; UsageError where that is no program, or cannot be run."""
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    try:
        files = [read(folder, path) for path in list_files(folder)]
    except OSError as error:
        raise UsageError(f"Cannot read {error.filename}: {error.strerror}.") from error
    return Submission(folder, find_program(folder, files), tuple(files))


def find_program(folder: Path, files: list[File]) -> str:
    """The file to be run: the one named program that is executable; UsageError without one."""
    named = [file for file in files if is_program(file.path)]
    ready = [file for file in named if file.is_executable]
    if not named:
        raise UsageError(
            f"There is no program in {folder}.",
            f"The file to be run is named {PROGRAM}, with any ending: program.py, for example.",
        )
    if not ready:
        path = folder / named[0].path
        raise UsageError(f"{path} cannot be executed.", f"chmod +x '{path}'")
    if len(ready) > 1:
        names = " and ".join(file.path for file in ready)
        raise UsageError(
            f"{folder} has several programs: {names}.", "chmod -x takes one of them out."
        )
    return ready[0].path


def is_program(path: str) -> bool:
    """Whether a path in the folder is named as the file to be run is."""
    return "/" not in path and path.split(".", maxsplit=1)[0] == PROGRAM and not is_left_out(path)


def list_programs(folder: Path) -> list[Path]:
    """The files of a folder that are named so, ready to run or not; raises OSError."""
    paths = [folder / name for name in os.listdir(folder) if is_program(name)]
    return sorted(path for path in paths if not path.is_dir())


def list_files(folder: Path) -> list[str]:
    """The paths of the regular files below a folder, hidden ones left out; UsageError for many."""
    found: list[str] = []
    size = 0

    def give_up(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=give_up):
        folders[:] = sorted(name for name in folders if not is_left_out(name))
        for name in sorted(names):
            status = os.lstat(os.path.join(place, name))
            if stat.S_ISREG(status.st_mode) and not is_left_out(name):
                found.append(os.path.relpath(os.path.join(place, name), folder))
                size += status.st_size
        if len(found) > MOST_FILES or size > MOST_BYTES:
            raise UsageError(
                f"{folder} has more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB.",
                "Leave only the program in it, and what that needs to run.",
            )
    return found


def is_left_out(name: str) -> bool:
    """Whether a file or folder of this name is nothing that a program runs with."""
    return name.startswith(".") or name == "__pycache__" or name.endswith("~")


def read(folder: Path, path: str) -> File:
    """A file of the folder; raises OSError. A link is not followed: it may lead anywhere."""
    descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        is_executable = bool(os.fstat(descriptor).st_mode & 0o100)
        return File(path, file.read(MOST_BYTES + 1), is_executable)


def single_file(path: Path) -> Submission:
    """A program that is one file; UsageError where that cannot be read, or is too large."""
    try:
        content = read(path.parent, path.name).content
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path} has more than {MOST_BYTES >> 20} MiB.")
    name = PROGRAM + path.suffix
    return Submission(path.parent, name, (File(name, content, True),))
