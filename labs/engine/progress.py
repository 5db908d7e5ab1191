"""What is told while images are made, in this order; views show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class ImagesPlanned:
    """What will be made, by name, in this order."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class ImageStarted:
    """One of them is being made now."""

    name: str


@dataclass(frozen=True)
class InstructionStarted:
    """An instruction of an image's, `number` of `count`, is being carried out."""

    name: str
    number: int
    count: int
    text: str


@dataclass(frozen=True)
class OutputWritten:
    """A line that the current instruction has written."""

    name: str
    line: str


@dataclass(frozen=True)
class ImageDone:
    """An image is there: `size` in bytes (0: nothing to weigh), or why none was made.

    What is done with a kernel's image ends with this as well: `kept` says how, `failed` that it is
    no success.
    """

    name: str
    size: int = 0
    kept: str = ""
    failed: bool = False


Progress: TypeAlias = (
    "ImagesPlanned | ImageStarted | InstructionStarted | OutputWritten | ImageDone"
)
