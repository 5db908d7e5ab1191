"""The roster: who is in a class, and which exercise each of them has."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONGEST_NAME = 100  # characters
MOST_LEARNERS = 10_000
FORMULA = "=+-@"  # what a spreadsheet that reads table.csv would take for the start of a formula
SEED_BYTES = 5  # a million learners' seeds are then different but for one chance in two


@dataclass(frozen=True)
class Learner:
    """Somebody in a class, by a name that no other has there."""

    name: str

    @property
    def seed(self) -> int:
        """The seed of the learner's exercise: it follows from the name, in every class."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return int.from_bytes(digest[:SEED_BYTES], "big")


def read_roster(name: str) -> Sequence[Learner]:
    """The learners of a file, one name a line, without blank lines and lines that begin with #.

    UsageError where it cannot be read, names nobody, names somebody twice or has an absurd name.
    """
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"Cannot read {name}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is no UTF-8 text: {error.reason}.") from error
    lines: dict[str, int] = {}
    for number, learner in read_names(name, text):
        if learner in lines:
            raise UsageError(
                f"{name} names {learner!r} twice, in the lines {lines[learner]} and {number}.",
                "Whoever has the same name would have the same exercise: tell them apart.",
            )
        lines[learner] = number
    if not lines:
        raise UsageError(f"{name} names no learner.", "It takes one name a line.")
    if len(lines) > MOST_LEARNERS:
        raise UsageError(f"{name} names {len(lines)} learners; a class has up to {MOST_LEARNERS}.")
    return [Learner(learner) for learner in lines]


def read_names(file: str, text: str) -> Iterator[tuple[int, str]]:
    """The names in a text, with the numbers of their lines; UsageError for an absurd one."""
    # Not splitlines(): a name with a line's end of Unicode's in it is to be refused.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        name = " ".join(unicodedata.normalize("NFC", line).split(" ")).strip()
        if not name or name.startswith("#"):
            continue
        fault = find_fault(name)
        if fault:
            raise UsageError(f"{file}, line {number}: the name {name[:LONGEST_NAME]!r} {fault}.")
        yield number, name


def find_fault(name: str) -> str:
    """Why a name is absurd; empty if it is not."""
    if len(name) > LONGEST_NAME:
        return f"has more than {LONGEST_NAME} characters"
    # Cc and Cf: control and format characters; Zl and Zp: line and paragraph separators.
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in name):
        return "has a character that cannot be seen"
    if not any(letter.isalnum() for letter in name):
        return "has neither a letter nor a digit"
    if name[0] in FORMULA:
        return f"begins with {name[0]}, as a formula does"
    return ""
