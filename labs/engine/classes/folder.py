"""A class's folder: what the class is, each learner's result as it comes, and the table.

    class.json           the manifest: the lab, the learners, bindlab's version
    results/NAME.json    what came of one learner, with the record
    table.json           the class table as data
    table.csv            and for a spreadsheet

Every file is written aside and then given its name, so that a file that is there is whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.classes.cluster import Assignment
from labs.engine.classes.result import FORMAT, read_result
from labs.engine.errors import UsageError
from labs.engine.reading import elements, members, read_file, read_text, reader
from labs.engine.version import VERSION
from labs.engine.views.json import converted, open_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from labs.engine.agent import Json
    from labs.engine.classes.result import Result
    from labs.engine.classes.roster import Learner
    from labs.engine.classes.table import Table

MANIFEST = "class.json"
RESULTS = "results"
SHOWN_NAMES = 3
READABLE = 40  # characters of a name that are kept in a file's
ANOTHER = "--folder FOLDER names another one."


@dataclass(frozen=True)
class Manifest:
    """What a folder is of; the learners' order is the table's."""

    lab: str
    learners: tuple[str, ...]
    version: str = VERSION

    def to_json(self) -> dict[str, Json]:
        """The manifest's document."""
        learners: list[Json] = [*self.learners]
        return {
            "format": FORMAT,
            "version": self.version,
            "lab": self.lab,
            "learners": learners,
        }


class Folder:
    """The folder of one class, which no other command works in meanwhile."""

    def __init__(self, path: Path, lab: str) -> None:
        self.path = path
        self._lab = lab

    def read_results(self, learners: Sequence[Learner]) -> Mapping[str, Result]:
        """The results that are there, by learner; UsageError for a file that is none."""
        found = {learner.name: self._read_result(learner) for learner in learners}
        return {name: result for name, result in found.items() if result}

    def keep(self, result: Result) -> None:
        """Write a learner's result; raises as `write` does."""
        self._write_json(self.find_file(result.learner), result.to_json())

    def write_table(self, table: Table) -> None:
        """Write the class table in both forms; raises as `write` does."""
        self._write_json(self.path / "table.json", table.to_json())
        write(self.path / "table.csv", table.to_csv())

    def write_manifest(self, manifest: Manifest) -> None:
        """Write what this folder is of; raises as `write` does."""
        self._write_json(self.path / MANIFEST, manifest.to_json())

    def find_file(self, learner: str) -> Path:
        """The file of a learner's result: what can be read of the name, and what tells it apart."""
        readable = "".join(letter if letter.isalnum() else "-" for letter in learner)
        # A letter takes up to four bytes of UTF-8, a file's name has up to 255.
        digest = hashlib.sha256(learner.encode()).hexdigest()[:16]
        return self.path / RESULTS / f"{readable[:READABLE]}-{digest}.json"

    def _read_result(self, learner: Learner) -> Result | None:
        path = self.find_file(learner.name)
        if not path.exists():
            return None
        assignment = Assignment(self._lab, learner.seed)
        return read_file(
            str(path),
            lambda value: read_result(value, learner.name, assignment),
            f"is no result of {learner.name}",
            f"rm '{path}'  and that learner is run again.",
        )

    def _write_json(self, path: Path, value: Json) -> None:
        write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def open_folder(path: Path, manifest: Manifest, *, resume: bool) -> Iterator[Folder]:
    """The folder of a class, new or the same class's, for this process alone.

    UsageError where it is another class's, in use, damaged or not to be written; where it has
    results without `resume`, and where there is nothing to resume.
    """
    if resume and not (path / MANIFEST).exists():
        raise UsageError(f"There is no class in {path} that could be resumed.")
    folder = Folder(path, manifest.lab)
    with contextlib.ExitStack() as stack:
        try:
            (path / RESULTS).mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise UsageError(f"Another class.run is at work in {path}.", ANOTHER) from error
            raise UsageError(f"Cannot keep results in {path}: {error.strerror}.") from error
        check_manifest(path, manifest)
        if not resume and any((path / RESULTS).iterdir()):
            raise UsageError(
                f"{path} has results already.",
                f"--resume goes on with those who have none; {ANOTHER}",
            )
        folder.write_manifest(manifest)
        yield folder


def check_manifest(path: Path, manifest: Manifest) -> None:
    """See that a folder is of this class, if it is of any; raises UsageError."""
    if not (path / MANIFEST).exists():
        if any(path.glob(f"{RESULTS}/*")):
            raise UsageError(f"{path} has results, and no {MANIFEST} says of which class.", ANOTHER)
        return
    fault = "is no class that this version of bindlab knows"
    found = read_file(str(path / MANIFEST), read_manifest, fault, ANOTHER)
    if found.lab != manifest.lab:
        raise UsageError(f"The class in {path} runs the lab {found.lab}.", ANOTHER)
    if found.version != manifest.version:
        raise UsageError(f"The class in {path} was run by bindlab {found.version}.", ANOTHER)
    new = [name for name in manifest.learners if name not in found.learners]
    gone = [name for name in found.learners if name not in manifest.learners]
    if new or gone:
        differences = "; ".join(
            filter(None, (list_names("without", new), list_names("with", gone)))
        )
        raise UsageError(f"The class in {path} has other learners: {differences}.", ANOTHER)


def list_names(introduction: str, names: Sequence[str]) -> str:
    """Some names after their introduction; nothing where there are none."""
    shown = ", ".join(names[:SHOWN_NAMES])
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"{introduction} {shown}{more}" if names else ""


def read_manifest(value: Json) -> Manifest:
    """The manifest of a document; ValueError where it is none of this format."""
    fields = members(value)
    if fields.get("format") != FORMAT:
        raise ValueError(f"format {fields.get('format')!r} is not {FORMAT}")
    learners = tuple(str(reader(str)(name)) for name in elements(fields.get("learners")))
    return Manifest(read_text(fields, "lab"), learners, read_text(fields, "version"))


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; UsageError or EngineError where that cannot be."""
    with converted(str(path)), open_output(path) as stream:
        stream.write(text)
