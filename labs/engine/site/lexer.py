"""The adapter to Pygments: what is to be retyped in a playground, apart from what comes back."""

from __future__ import annotations

from typing import ClassVar

from pygments.lexer import RegexLexer, bygroups
from pygments.token import Generic, Text


class PlayLexer(RegexLexer):  # type: ignore[misc]  # it has no types
    """The blocks named play of a brief: prompts with commands, and output."""

    name = "play"
    aliases: ClassVar[list[str]] = ["play"]
    tokens: ClassVar[dict[str, list[tuple[str, object]]]] = {
        "root": [
            (r"^([\w-]+@[\w-]+[$#] )(.*\n)", bygroups(Generic.Prompt, Text)),
            (r".*\n", Generic.Output),
        ]
    }
