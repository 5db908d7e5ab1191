"""A trainee's progress: a file in the user's state folder, one entry for each exercise.

Entries go by the exercise's name, so that a course may change its order. The file is written aside
and renamed, under a lock; one that cannot be read is kept as it is, and said.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import UsageError
from labs.engine.reading import instance_reader, members, read_file
from labs.engine.views.json import converted, open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from labs.engine.agent import Json

VERSION = 1
FILE = "progress.json"
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


class Progress:
    """The progress file of this user."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._lock = folder / LOCK

    def read(self) -> dict[str, Entry]:
        """All entries by exercise; UsageError for a file that cannot be read, which is kept."""
        if not self.path.exists():
            return {}
        return read_file(
            str(self.path),
            read_entries,
            "holds no progress that this version of bindlab knows",
            f"It was left as it is. To begin anew: mv '{self.path}' '{self.path}.old'",
        )

    def change(self, name: str, change: Callable[[Entry | None], Entry]) -> Entry:
        """Let an entry be another one, while no other command changes the file; the new one."""
        with self._locked():
            entries = self.read()
            entry = entries[name] = change(entries.get(name))
            with converted(str(self.path)), open_output(self.path) as stream:
                json.dump(to_json(entries), stream, indent=2, ensure_ascii=False)
                stream.write("\n")
        return entry

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


def open_progress() -> Progress:
    """The progress of this user, there or not yet; UsageError where there is no folder for it."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if not os.path.isabs(state):
        raise UsageError(f"There is no folder for progress: {state} is not an absolute path.")
    return Progress(Path(state, "bindlab"))


def read_entries(value: Json) -> dict[str, Entry]:
    """The entries of a document; ValueError where it is none of this version."""
    fields = members(value)
    if fields.get("version") != VERSION:
        raise ValueError(f"version {fields.get('version')!r} is not {VERSION}")
    read = instance_reader(Entry)
    return {name: read(entry) for name, entry in members(fields.get("exercises")).items()}


def to_json(entries: Mapping[str, Entry]) -> dict[str, Json]:
    """The document of some entries."""
    return {
        "version": VERSION,
        "exercises": {name: asdict(entry) for name, entry in entries.items()},
    }
