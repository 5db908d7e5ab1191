"""Keys in the trainee's language: what Textual has in the class, each instance gets its own of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.dom import DOMNode


def add_key(
    node: DOMNode,
    keys: str,
    action: str,
    name: str = "",
    *,
    is_shown: bool = True,
    comes_first: bool = False,
) -> None:
    """Let keys of a part of the screen do something, and nothing else; the first of them is shown.

    `name` is what the footer says of it; with `comes_first` no other part gets the key.
    """
    bindings = node._bindings  # noqa: SLF001  # Textual has no other way to do this to an instance
    for number, key in enumerate(keys.split(",")):
        bindings.key_to_bindings.pop(key, None)
        is_first = number == 0
        bindings.bind(key, action, name, show=is_shown and is_first, priority=comes_first)


def remove_key(node: DOMNode, key: str) -> None:
    """Let a key of Textual's be for whoever is around this part of the screen."""
    node._bindings.key_to_bindings.pop(key, None)  # noqa: SLF001  # as above
