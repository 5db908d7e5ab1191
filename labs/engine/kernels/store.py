"""Where fetched kernels are: in the user's cache folder, each whole or not at all.

A kernel is made in the folder .partial and renamed at the end, under the lock of the whole store:
one fetch at a time, and what is in .partial when another has the lock is of one that died.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

SCHEMA = 1
DOCUMENT = "kernel.json"
PARTIAL = ".partial"
LOCK = ".lock"
HINT = "XDG_CACHE_HOME names another folder."

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,  # where no folder can be made: in /proc
    errno.ENOTDIR,
    errno.EEXIST,
)


@dataclass(frozen=True)
class Stored:
    """A kernel that was fetched, as its kernel.json has it.

    `folder` is where it was made to be: a UML binary with a libc of its own has it built in.
    """

    name: str
    package: str
    package_version: str
    release: str
    suite: str
    folder: str
    schema: int = SCHEMA

    @property
    def image(self) -> Path:
        """The UML binary or bzImage."""
        return Path(self.folder, "linux")

    @property
    def modules(self) -> Path:
        """The folder that is lib/modules/RELEASE."""
        return Path(self.folder, "modules")


@dataclass(frozen=True)
class Draft:
    """A kernel that is being made: in `folder`, to be renamed to `final`.

    `work` is for what is not to stay.
    """

    folder: Path
    work: Path
    final: Path


class Lock:
    """The store's lock, which is free again when the process that has it ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def try_take(self) -> bool:
        """Take it; False where another process has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait(self) -> None:
        """Take it as soon as it is free."""
        fcntl.flock(self._file, fcntl.LOCK_EX)


def find_folder() -> Path:
    """The folder of all kernels, there or not; CannotRun where the user has none."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(cache):
        raise CannotRun(
            f"There is no cache folder for kernels: {cache} is not an absolute path.",
            HINT,
        )
    return Path(os.path.realpath(cache), "bindlab", "kernels")


def folder_of(name: str) -> Path:
    """The folder of the kernel of this full name."""
    return find_folder() / name.replace(":", "-")


def find_stored(name: str) -> Stored | None:
    """The kernel of this full name; None where it was not fetched, or was moved here."""
    folder = folder_of(name)
    try:
        document = json.loads((folder / DOCUMENT).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise CannotRun(f"Cannot read {folder}: {error.strerror}.") from error
    names = {field.name for field in fields(Stored)}
    if not isinstance(document, dict) or document.keys() != names:
        return None
    stored = Stored(**document)
    is_whole = stored.schema == SCHEMA and stored.folder == str(folder) and stored.image.exists()
    return stored if is_whole else None


@contextlib.contextmanager
def open_lock() -> Iterator[Lock]:
    """The store's lock, not yet taken; it is given up with the block."""
    folder = find_folder()
    with store_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("wb")
    with file:
        yield Lock(file)


@contextlib.contextmanager
def making(name: str) -> Iterator[Draft]:
    """A new kernel: there, whole, when the block ends well, else not at all.

    Only for whoever has the lock.
    """
    final = folder_of(name)
    partial = final.parent / PARTIAL
    draft = Draft(partial / "kernel", partial / "work", final)
    with store_errors(final.parent):
        if partial.exists():
            shutil.rmtree(partial)
        try:
            draft.folder.mkdir(parents=True)
            draft.work.mkdir()
            yield draft
            if final.exists():  # and is of no use, or nobody would make another
                final.rename(partial / "old")
            draft.folder.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_document(draft: Draft, stored: Stored) -> None:
    """Put kernel.json beside the image."""
    text = json.dumps(asdict(stored), indent=2)
    (draft.folder / DOCUMENT).write_text(f"{text}\n")


@contextlib.contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Say of an OSError what it means for the store."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise EngineError(f"The disk of {folder} is full; nothing was kept.", HINT) from error
        message = f"Cannot write to {error.filename or folder}: {error.strerror}."
        if error.errno in NO_ACCESS:
            raise CannotRun(message, HINT) from error
        raise EngineError(message) from error


def measure(folder: Path) -> int:
    """The size of a folder's files, in bytes."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
