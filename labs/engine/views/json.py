"""The JSON view: the record of a run, or its events line by line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

from labs.engine.errors import EngineError, UsageError, standard_output
from labs.engine.model import Event, RunStarted
from labs.engine.record import Record, document, event_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STANDARD_OUTPUT = "-"
LINES_SUFFIX = ".jsonl"


class DocumentView:
    """Collects the records of all runs and writes one document when the last is over."""

    def __init__(self) -> None:
        self._records: list[Record] = []

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, RunStarted):
            self._records.append(Record())
        self._records[-1](event)

    def write(self, stream: TextIO) -> None:
        """Write the document."""
        json.dump(document(self._records), stream, indent=2, ensure_ascii=False)
        stream.write("\n")


class LinesView:
    """Writes each event as one line of JSON, the moment it comes; EngineError where it cannot."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Write the next event."""
        with converted(self._stream.name):
            json.dump(event_line(event), self._stream, ensure_ascii=False)
            self._stream.write("\n")
            self._stream.flush()


class View(Protocol):
    """What collects events and then has a document to write."""

    def write(self, stream: TextIO) -> None:
        """Write the document."""


WholeView = TypeVar("WholeView", bound=View)


@contextlib.contextmanager
def open_whole_view(name: str, view: WholeView) -> Iterator[WholeView]:
    """A view that writes its document when the block ends, as `open_stream` has it."""
    with open_stream(name) as stream:
        yield view
        view.write(stream)


@contextlib.contextmanager
def open_json_view(name: str) -> Iterator[DocumentView | LinesView]:
    """The view that writes to a file: `-` is standard output, NAME.jsonl takes events as lines.

    The file is opened at once, so that a name that cannot be written is a UsageError before
    anything starts. A document replaces the file whole at the end of the block or not at all.
    EngineError where the writing fails.
    """
    if name.endswith(LINES_SUFFIX):
        with converted(name), open_directly(Path(name)) as stream:
            yield LinesView(stream)
        return
    with open_whole_view(name, DocumentView()) as view:
        yield view


class Written(Protocol):
    """What has a document."""

    def to_json(self) -> object:
        """The document."""


@contextlib.contextmanager
def open_document(what: str, name: str | None) -> Iterator[Callable[[Written], None] | None]:
    """What writes the document of `what` to a file, `-` being standard output.

    It is opened at once, and replaced whole or not at all, as the record of a lab is. UsageError
    where the name is one for a run's events.
    """
    if name is None:
        yield None
        return
    if name.endswith(LINES_SUFFIX):
        raise UsageError(f"{what} is one document: {LINES_SUFFIX} is for the events of a run.")
    with open_stream(name) as stream:

        def write(written: Written) -> None:
            json.dump(written.to_json(), stream, indent=2, ensure_ascii=False)
            stream.write("\n")

        yield write


@contextlib.contextmanager
def open_stream(name: str) -> Iterator[TextIO]:
    """Where a document goes: to a file, or for `-` to standard output.

    A file is opened at once, and replaced whole when the block ends without an error or not at all.
    UsageError where it cannot be opened, EngineError where the writing fails.
    """
    with converted(name):
        if name == STANDARD_OUTPUT:
            yield standard_output()
            return
        with open_output(Path(name)) as stream:
            yield stream


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[TextIO]:
    """A file whose content is there when the block ends without an error, and not before.

    Devices and pipes are written to as they are; a symbolic link leads to what is replaced.
    """
    try:
        special = is_special(path)
    except OSError as error:
        raise unwritable(path, error) from error
    with open_directly(path) if special else open_replacement(path) as stream:
        yield stream


@contextlib.contextmanager
def open_replacement(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of what has this name when the block ends without an error."""
    with contextlib.ExitStack() as stack:
        try:
            target = path.resolve()
            mode = check_replaceable(target)
            folder = os.open(target.parent, os.O_PATH | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            aside = f".{target.name}.{os.getpid()}"
            descriptor = create_aside(aside, folder, stack)
        except OSError as error:
            raise unwritable(path, error) from error
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            if mode is not None:
                os.fchmod(descriptor, mode)
            yield stream
            stream.flush()
            give_name(descriptor, target.name, aside, folder)


def is_special(path: Path) -> bool:
    """Whether a name stands for something other than a file in a folder; raises OSError."""
    in_system = path.absolute().parts[1:2] in (("dev",), ("proc",))
    return in_system or (path.exists() and not path.is_file() and not path.is_dir())


def check_replaceable(path: Path) -> int | None:
    """The mode of the file that is to be replaced, None if there is none; raises OSError."""
    if not path.exists():
        return None
    with path.open("r+b"):
        return stat.S_IMODE(path.stat().st_mode)


def give_name(descriptor: int, name: str, aside: str, folder: int) -> None:
    """Give the file its name; one that has it already is replaced by way of the name `aside`."""
    source = f"/proc/self/fd/{descriptor}"
    with contextlib.suppress(FileExistsError):
        # With a folder's descriptor Python calls linkat(), which follows the link in /proc.
        os.link(source, name, dst_dir_fd=folder)
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(source, aside, dst_dir_fd=folder)
        os.replace(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def create_aside(name: str, folder: int, stack: contextlib.ExitStack) -> int:
    """A new file without a name, which vanishes with this process; open(2) on O_TMPFILE.

    Where the file system cannot do that, it has this name and is removed when the stack ends.
    """
    try:
        return os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise

    def remove() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)

    descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=folder)
    stack.callback(remove)
    return descriptor


def open_directly(path: Path) -> TextIO:
    """The file, open for writing as it is; UsageError where it cannot be."""
    try:
        return path.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UsageError:
    """The error for a name that the user gave and that cannot be written."""
    return UsageError(f"Cannot write {path}: {error.strerror}.")


@contextlib.contextmanager
def converted(name: str) -> Iterator[None]:
    """Say which file it was that could not be written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise EngineError(f"Could not write {name}: {error.strerror}.") from error
