"""What a brief has besides its sections: the lab to be retyped, and what it is proved by."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from labs.engine.authoring.problem import Problem, at
from labs.engine.catalogue import list_challenges
from labs.engine.play.transcript import read_transcript
from labs.engine.translation import ENGLISH, LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from labs.engine.play.transcript import Entry


def check_by_hand(folder: Path) -> Iterator[Problem]:
    """Its briefs have the commands of the playground, the same ones in each language."""
    english: list[tuple[str, ...]] = []
    for language in LANGUAGES:
        path = folder / f"brief.{language}.md"
        try:
            entries = read_transcript(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue  # another check says so
        except ValueError as error:
            yield at(path, f"cannot be retyped: {error}")
            continue
        found = [key_of(entry) for entry in entries]
        if language == ENGLISH:
            english = found
            if not found:
                yield at(path, "has nothing to be retyped in a playground, in a block named play")
        elif found != english:
            yield at(path, "has other commands for the playground than the English one")


def key_of(entry: Entry) -> tuple[str, ...]:
    """What has to be the same in each language."""
    return (entry.user, entry.host, entry.command, *entry.expected)


def check_ways_on(folder: Path) -> Iterator[Problem]:
    """Its briefs name each of its challenges, by the command that begins it."""
    for language in LANGUAGES:
        path = folder / f"brief.{language}.md"
        try:
            words = path.read_text(encoding="utf-8").replace("`", " ").split()
        except (OSError, UnicodeDecodeError):
            continue  # another check says so
        for name in list_challenges(folder):
            if ("exercise.start", name) not in pairwise(words):
                yield at(path, f"does not name its challenge: invoke exercise.start {name}")
