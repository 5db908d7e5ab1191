"""The folder in which each open playground of a machine's user has its socket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "bindlab"
PREFIX = "play-"
# What connect(2) answers where nobody listens any more, or has just removed it.
STALE = (ConnectionRefusedError, FileNotFoundError)


@dataclass(frozen=True)
class Folder:
    """A folder that is one user's alone, by a descriptor."""

    descriptor: int

    def address(self, name: str) -> str:
        """A path of a socket in it, however long the folder's own is (unix(7) takes 107 bytes)."""
        return f"/proc/self/fd/{self.descriptor}/{name}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else opens, joins or closes a playground meanwhile."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def locked_at_once(self) -> Iterator[bool]:
        """The same where nobody else has the lock; whether it is so."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def connect(self) -> list[socket.socket]:
        """A connection to each playground; the sockets of those that are no more are removed."""
        found = []
        for name in sorted(os.listdir(self.descriptor)):
            if not name.startswith(PREFIX):
                continue
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self.address(name))
            except STALE:
                connection.close()
                self.remove(name)
            else:
                found.append(connection)
        return found

    def listen(self, name: str) -> socket.socket:
        """A listener in the folder."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.address(name))
        listener.listen()
        return listener

    def remove(self, name: str) -> None:
        """Remove a socket, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)


@contextlib.contextmanager
def open_folder() -> Iterator[Folder]:
    """The folder of this machine's user, made where there is none.

    It is in $XDG_RUNTIME_DIR, and below the folder for temporary files where that is missing.
    EngineError for one that others can write to.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        path = os.path.join(runtime, NAME)
    else:
        path = os.path.join(tempfile.gettempdir(), f"{NAME}-{os.geteuid()}")
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise EngineError(f"There can be no folder {path}: {error.strerror}.") from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise EngineError(
                f"The folder {path} is not yours alone.", f"Remove it, or: chmod 700 {path}"
            )
        yield Folder(descriptor)
    finally:
        os.close(descriptor)
