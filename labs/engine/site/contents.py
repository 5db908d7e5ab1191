"""What the site has and in which order, and what its pages have there beside their own text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from labs.engine.site.chinese import join_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FRONT = "docs/index"
GALLERIES = {"docs/gallery": "en", "docs/gallery.zh": "zh"}
SHEETS = ("docs/bind", "docs/bind.zh")
DECISIONS = "docs/decisions/README"

# The sidebar: groups of pages, each by its own title or by the one before the brackets.
GROUPS = (
    (
        "Begin",
        ("Overview </README>", *GALLERIES, "docs/course", "docs/exercises", "docs/by-hand"),
    ),
    ("Look up", (*SHEETS, "docs/port-why", "docs/commands", "docs/places", "docs/missing")),
    ("Measure", ("docs/report", "docs/record", "docs/matrix", "docs/rules", "docs/bisecting")),
    ("Teach and write", ("docs/classes", "docs/writing-a-lab", DECISIONS)),
)

BRIEF = re.compile(r"labs/(\w+)/brief\.(en|zh)")
WAYS_ON = {
    "en": "[中文](brief.zh.md) · [in the gallery](../../docs/gallery.md#{lab})",
    "zh": "[English](brief.en.md) · [实验一览](../../docs/gallery.zh.md#{lab})",
}


def language_of(page: str) -> str:
    """The language of a page, which is its name without the suffix."""
    return "zh" if page.endswith(".zh") else "en"


def complete(page: str, text: str, labs: Sequence[str]) -> str:
    """The Markdown of a page as the site has it: with the ways on from there."""
    if language_of(page) == "zh":
        text = join_lines(text)
    if match := BRIEF.fullmatch(page):
        title, _, rest = text.partition("\n")
        ways = WAYS_ON[match[2]].format(lab=match[1])
        return f"{title}\n\n{ways}\n{rest}"
    return "\n".join([text, *list_below(page, labs)])


def list_below(page: str, labs: Sequence[str]) -> Iterator[str]:
    """The tables of contents that belong to a page; the sidebar shows them, the page does not."""
    if page == FRONT:
        for caption, pages in GROUPS:
            yield from make_toctree([rooted(name) for name in pages], caption)
    elif page in GALLERIES:
        language = GALLERIES[page]
        yield from make_toctree([f"{lab} </labs/{lab}/brief.{language}>" for lab in labs])
    elif page == DECISIONS:
        yield from make_toctree(["/docs/decisions/0*"])


def rooted(entry: str) -> str:
    """An entry of a table of contents, its page named from the project's root."""
    return entry if "<" in entry else f"/{entry}"


def make_toctree(entries: Sequence[str], caption: str = "") -> Iterator[str]:
    """A table of contents that is not shown where it stands."""
    yield from ("", "```{toctree}", ":hidden:", ":glob:")
    if caption:
        yield f":caption: {caption}"
    yield from ("", *entries, "```", "")
