"""A trainee's progress: files in the user's state folder, one entry for each exercise or lab.

Entries go by names, so that a course may change its order. A file is written aside and renamed,
under a lock; one that cannot be read is kept as it is, and said.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from labs.engine.errors import UsageError
from labs.engine.reading import instance_reader, members, read_file
from labs.engine.views.json import converted, open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from _typeshed import DataclassInstance

    from labs.engine.agent import Json

VERSION = 1
LOCK = ".lock"


@dataclass(frozen=True)
class Entry:
    """Where one stands with an exercise.

    `folder` is the work folder, `hints` how many were given, `checks` how many were run. `started`
    and `passed` are days as YYYY-MM-DD, `passed` is empty before the first pass.
    """

    folder: str
    seed: int | None
    started: str
    hints: int = 0
    checks: int = 0
    passed: str = ""


@dataclass(frozen=True)
class LabEntry:
    """How often a lab was run to its end, and the predictions of the best of these runs.

    `day` is that of the last one, as YYYY-MM-DD; `right` of `asked` were predicted right.
    """

    runs: int
    day: str
    right: int = 0
    asked: int = 0


Kept = TypeVar("Kept", bound="DataclassInstance")


class Progress(Generic[Kept]):
    """One file of this user's: entries of a kind, in a section of this name."""

    def __init__(self, folder: Path, file: str, section: str, kind: type[Kept]) -> None:
        self.path = folder / file
        self._lock = folder / LOCK
        self._section = section
        self._kind = kind

    def read(self) -> dict[str, Kept]:
        """All entries by name; UsageError for a file that cannot be read, which is kept."""
        if not self.path.exists():
            return {}
        return read_file(
            str(self.path),
            self._read_entries,
            "holds no progress that this version of bindlab knows",
            f"It was left as it is. To begin anew: mv '{self.path}' '{self.path}.old'",
        )

    def change(self, name: str, change: Callable[[Kept | None], Kept]) -> Kept:
        """Let an entry be another one, while no other command changes the file; the new one."""
        with self._locked():
            entries = self.read()
            entry = entries[name] = change(entries.get(name))
            with converted(str(self.path)), open_output(self.path) as stream:
                json.dump(self._to_json(entries), stream, indent=2, ensure_ascii=False)
                stream.write("\n")
        return entry

    def _read_entries(self, value: Json) -> dict[str, Kept]:
        """The entries of a document; ValueError where it is none of this version."""
        fields = members(value)
        if fields.get("version") != VERSION:
            raise ValueError(f"version {fields.get('version')!r} is not {VERSION}")
        read = instance_reader(self._kind)
        return {name: read(entry) for name, entry in members(fields.get(self._section)).items()}

    def _to_json(self, entries: Mapping[str, Kept]) -> dict[str, Json]:
        """The document of some entries."""
        return {
            "version": VERSION,
            self._section: {name: asdict(entry) for name, entry in entries.items()},
        }

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(
                f"Cannot keep progress in {self._lock.parent}: {error.strerror}.",
                "XDG_STATE_HOME names another folder.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def open_progress() -> Progress[Entry]:
    """The exercises of this user, there or not yet; UsageError where there is no folder for it."""
    return exercises_in(state_folder())


def exercises_in(folder: Path) -> Progress[Entry]:
    """The exercises of whoever's state folder this is."""
    return Progress(folder, "progress.json", "exercises", Entry)


def open_lab_progress() -> Progress[LabEntry]:
    """The labs that this user has run in the course; raises UsageError likewise."""
    return Progress(state_folder(), "labs.json", "labs", LabEntry)


def state_folder() -> Path:
    """Where this user's progress is; UsageError where there is no folder for it."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if not os.path.isabs(state):
        raise UsageError(f"There is no folder for progress: {state} is not an absolute path.")
    return Path(state, "bindlab")
