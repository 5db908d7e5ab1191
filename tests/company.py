"""Tests beside each other in several workers, and those that have to be alone meanwhile."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Files to lock that are there in any case, and so are left by nobody.
DOOR, ROOM = Path(__file__), Path(__file__).with_name("__init__.py")


@contextmanager
def in_company(*, alone: bool, door: Path = DOOR, room: Path = ROOM) -> Iterator[None]:
    """Wait until nobody is alone in there, or who is to be alone until nobody is in there at all.

    Who waits to be alone keeps the door, so that nobody comes in meanwhile.
    """
    with ExitStack() as stack:
        with locked(door, fcntl.LOCK_EX):
            stack.enter_context(locked(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def locked(path: Path, how: int) -> Iterator[None]:
    """Hold a lock on a file."""
    with path.open() as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:
            # Closing is not enough: a process that was forked meanwhile may have it open too.
            fcntl.flock(file, fcntl.LOCK_UN)
