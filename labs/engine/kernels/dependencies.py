"""What a modules.dep says: which kernel modules there are, and what each needs.

Read in the guest too, which imports no more than it has to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def read_dependencies(text: str) -> dict[str, list[str]]:
    """What each module needs, from a modules.dep: paths relative to its folder."""
    pairs = (line.split(":", 1) for line in text.splitlines())
    return {path: needs.split() for path, needs in pairs}


def loading_order(wanted: Iterable[str], depends: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The paths of modules, given by name, and of what they need, each once, as they can be loaded.

    A module that is not there, being built in or not built, is left out.
    """
    paths = {module_name(path): path for path in depends}
    there = [paths[name] for name in wanted if name in paths]
    # What a module needs stands in the order of its being needed: the last goes first.
    return [*dict.fromkeys(path for want in there for path in (*reversed(depends[want]), want))]


def module_name(path: str) -> str:
    """A module's name by its file."""
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")
