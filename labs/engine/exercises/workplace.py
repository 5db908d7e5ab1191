"""A work folder: where the trainee writes the program of an exercise."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import UsageError
from labs.engine.submission import PROGRAM, list_files, list_programs, read_submission

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from labs.engine.challenge import Challenge
    from labs.engine.submission import Submission

    Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]
    """What changes with the files of a folder: paths, times, sizes and modes."""

HOME = "bindlab"  # in the trainee's home folder
TEMPLATE = f"{PROGRAM}.py"


@dataclass(frozen=True)
class Workplace:
    """The work folder of one exercise."""

    path: Path
    challenge: Challenge

    @property
    def program(self) -> Path:
        """Where the template is put."""
        return self.path / TEMPLATE

    def fill(self) -> Path | None:
        """Put the template there, if there is no program yet; the program that is, None for none.

        UsageError where it cannot be put.
        """
        if self.path.is_dir() and (there := list_programs(self.path)):
            return there[0]
        self._put(self.challenge.template)
        return None

    def reset(self) -> list[Path]:
        """Put the template there again; where the programs of before are now."""
        there = list_programs(self.path) if self.path.is_dir() else []
        kept = [self._set_aside(path) for path in there]
        self._put(self.challenge.template)
        return kept

    def read(self) -> Submission:
        """The program with what is beside it; raises UsageError."""
        if not self.path.is_dir():
            raise UsageError(
                f"The work folder {self.path} is gone.",
                f"invoke exercise.start {self.challenge.name}  makes it anew.",
            )
        return read_submission(self.path)

    def fingerprint(self) -> Fingerprint:
        """What the folder is like now; nothing where it cannot be read."""
        try:
            statuses = [(path, os.lstat(self.path / path)) for path in list_files(self.path)]
        except (OSError, UsageError):
            return ()
        return tuple(
            (path, each.st_mtime_ns, each.st_size, each.st_mode) for path, each in statuses
        )

    def is_untouched(self, submission: Submission) -> bool:
        """Whether the program is still the template."""
        return submission.content == self.challenge.template.read_bytes()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While it is checked; UsageError where another check is at work."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            raise UsageError(
                f"Another check of {self.challenge.name} is at work.", "One at a time."
            ) from None
        finally:
            os.close(descriptor)

    def _put(self, source: Path) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.program.write_bytes(source.read_bytes())
            self.program.chmod(0o755)
        except OSError as error:
            raise UsageError(
                f"Cannot write {self.program}: {error.strerror}.", "--folder FOLDER names another."
            ) from error

    def _set_aside(self, path: Path) -> Path:
        """Give a program another name, one that no file has."""
        ending = path.name.removeprefix(PROGRAM)
        names = (self.path / f"before-reset-{number}{ending}" for number in count(1))
        kept = next(name for name in names if not name.exists())
        path.rename(kept)
        return kept


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """What the user's folders and files do not let be done, as a UsageError that names them."""
    try:
        yield
    except OSError as error:
        if error.filename is None or isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"Cannot use {error.filename}: {error.strerror}.") from error


def usual_folder(name: str) -> Path:
    """Where the work folder of an exercise is, if nothing else is said."""
    return Path(os.path.expanduser("~"), HOME, name)
