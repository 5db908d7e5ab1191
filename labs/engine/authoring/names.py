"""The names that a lab or a challenge may have."""

from __future__ import annotations

import builtins
import keyword
import re

from labs.engine import challenge, script

COMMANDS = ("all", "check", "new", "report", "verdicts")
"""What `invoke lab.` has besides labs."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
FOLDER = "engine"  # what is in labs/ and is no lab

# A script has a function of its name, which must not hide what it uses.
WORDS = frozenset(
    (*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *script.__all__, *challenge.__all__)
)


def find_fault(name: str) -> str:
    """Why nothing can have this name; empty where it can."""
    if not NAME.fullmatch(name):
        return "a name is up to 32 of a-z, 0-9 and _, and begins with a letter"
    if name in WORDS:
        return "it is a word of Python's or of a script's"
    if name == FOLDER:
        return f"labs/{FOLDER} is what runs the labs"
    if name in COMMANDS:
        return f"invoke lab.{name} is a command"
    return ""
