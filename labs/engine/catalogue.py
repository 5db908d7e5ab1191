"""Finds the labs: every folder of `labs/` that has a lab.py."""

import importlib
from dataclasses import dataclass
from pathlib import Path

from labs.engine.errors import LabError
from labs.engine.script import Lab

LABS = Path(__file__).parents[1]

# The order in which a trainee meets them; a lab that is not named here comes after these.
ORDER = ("euid",)


@dataclass(frozen=True)
class Entry:
    """A lab of the catalogue: loaded, or the reason why it could not be."""

    name: str
    title: str
    lab: Lab | None
    problem: str = ""

    def load(self) -> Lab:
        """The lab; LabError where its file is broken."""
        if self.lab is None:
            raise LabError(f"The lab {self.name} cannot be loaded: {self.problem}")
        return self.lab


def find_labs(folder: Path = LABS, package: str = "labs") -> list[Entry]:
    """All labs in the order of the course; a broken one is an entry with its problem."""
    names = [path.parent.name for path in sorted(folder.glob("*/lab.py"))]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return [find_lab(name, f"{package}.{name}.lab") for name in names]


def find_lab(name: str, module_name: str) -> Entry:
    """The lab of one module."""
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        return Entry(name, "cannot be loaded", None, f"{type(error).__name__}: {error}")
    labs = [value for value in vars(module).values() if isinstance(value, Lab)]
    if len(labs) != 1 or labs[0].name != name:
        problem = f"{module.__file__} must have one lab, named {name}."
        return Entry(name, "cannot be loaded", None, problem)
    return Entry(name, labs[0].title, labs[0])
