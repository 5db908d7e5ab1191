"""What is wrong with a lab's content, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file or folder, if need be at which line, and what."""

    where: str
    what: str


def at(path: Path, what: str, line: int = 0) -> Problem:
    """A problem of a file or folder, at a line of it."""
    return Problem(f"{path}:{line}" if line else str(path), what)
