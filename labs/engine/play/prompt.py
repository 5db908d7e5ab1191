"""The prompt of a playground's shell, in the colour that its user has in the evidence."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labs.engine.play.ground import Ground, Person

# Those of the terminal view, in its order.
COLOURS = (36, 33, 35, 34)


def make_prompt(ground: Ground, user: Person, host: str) -> str:
    """`alice@server$ ` for bash, which has to know what of it takes no room on a line."""
    sign = "$" if user.uid else "#"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return f"{user.name}@{host}{sign} "
    colour = COLOURS[ground.users.index(user) % len(COLOURS)]
    return rf"\[\e[{colour}m\]{user.name}@{host}\[\e[0m\]{sign} "


def make_plain_prompt(user: Person, host: str) -> str:
    """The same for any shell."""
    return f"{user.name}@{host}{'$' if user.uid else '#'} "
