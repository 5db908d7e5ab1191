"""Chinese has no spaces between words: a line's end inside of a paragraph is nothing there."""

from __future__ import annotations

import re

# Letters and signs of Chinese, at which a browser would show the end of a line as a space.
SIGN = r"[\u2014\u201c\u201d\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
LINE_END = re.compile(rf"(?<={SIGN})\n *(?={SIGN})")
FENCED = re.compile(r"^( {0,3}```.*?^ {0,3}```$)", re.MULTILINE | re.DOTALL)


def join_lines(text: str) -> str:
    """The Markdown of a page with no end of a line between two signs; blocks of code stay."""
    parts = FENCED.split(text)
    parts[::2] = [LINE_END.sub("", part) for part in parts[::2]]
    return "".join(parts)
