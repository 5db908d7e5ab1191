"""Pages of Markdown, one for each language: all are there, and say the same things in turn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from labs.engine.authoring.problem import Problem, at
from labs.engine.translation import ENGLISH, LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADING = re.compile(r"(#{1,6}) ")
FENCE = re.compile(r" {0,3}(```+|~~~+)")


def check_pages(folder: Path, stem: str) -> Iterator[Problem]:
    """Of a page, each language's is there, not empty, and of the same sections as the English."""
    english: list[int] | None = None
    for language in LANGUAGES:
        path = folder / f"{stem}.{language}.md"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            yield at(path, "missing")
            continue
        except (OSError, ValueError) as error:
            yield at(path, f"cannot be read: {error}")
            continue
        if not text.strip():
            yield at(path, "empty")
            continue
        sections = list_sections(text)
        if language == ENGLISH:
            english = sections
        elif english is not None and sections != english:
            yield at(path, describe(sections, english))


def list_sections(text: str) -> list[int]:
    """The levels of a page's headings, in their order; what is inside of a fence is none."""
    found = []
    fence = ""
    for line in text.splitlines():
        if mark := FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
        elif not fence and (heading := HEADING.match(line)):
            found.append(len(heading[1]))
    return found


def describe(sections: list[int], english: list[int]) -> str:
    """In what the sections of a page are not those of the English one."""
    if len(sections) != len(english):
        return f"{len(sections)} headings, where the English page has {len(english)}"
    number = next(
        n for n, pair in enumerate(zip(sections, english, strict=True)) if len({*pair}) > 1
    )
    return f"heading {number + 1} is not of the level that it has in the English page"
