"""What a brief lets one retype: commands at prompts, and what is to be seen below them.

A block of Markdown whose info string is `play`. A line with a prompt, `alice@server$ command` (or
`root@server# command`), is typed in that user's shell on that host. The lines below it are to come,
in this order, each anywhere in a line of what the shell shows; `...` is any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FENCE = "```"
INFO = "play"
PROMPT = re.compile(r"(?P<user>[\w-]+)@(?P<host>[\w-]+)[$#] (?P<command>.+)")
ANYTHING = "..."


@dataclass(frozen=True)
class Entry:
    """A command in a user's shell on a host, and what is to come; `line` is that of the text."""

    user: str
    host: str
    command: str
    expected: tuple[str, ...]
    line: int

    def patterns(self) -> tuple[str, ...]:
        """Regular expressions for what is to come, in this order."""
        return tuple(
            r"[^\n]*".join(re.escape(part) for part in line.strip().split(ANYTHING))
            for line in self.expected
        )


def read_transcript(text: str) -> tuple[Entry, ...]:
    """The commands of all blocks in their order; ValueError for a block that begins without one."""
    entries: list[Entry] = []
    for start, lines in find_blocks(text):
        begun = False
        for number, line in enumerate(lines, start):
            if match := PROMPT.fullmatch(line):
                begun = True
                entries.append(Entry(**match.groupdict(), expected=(), line=number))
            elif not begun:
                raise ValueError(f"line {number}: a block begins with a prompt, not {line!r}")
            elif line.strip():
                last = entries[-1]
                expected = (*last.expected, line)
                entries[-1] = Entry(last.user, last.host, last.command, expected, last.line)
    return tuple(entries)


def find_blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """The blocks to be retyped: the number of the first line, and the lines."""
    block: list[str] | None = None
    fenced = False
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith(FENCE):
            if block is not None:
                block.append(line)
        elif fenced:
            if block is not None:
                yield start, block
            block, fenced = None, False
        else:
            fenced = True
            if line.removeprefix(FENCE).strip() == INFO:
                block, start = [], number + 1
    if block is not None:
        raise ValueError(f"line {start - 1}: a block that is not closed")
