"""Finds the labs: every folder of `labs/` that has a lab.py."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from labs.engine.errors import EngineError, Interrupted, UsageError
from labs.engine.script import Lab, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.challenge import Challenge

LABS = Path(__file__).parents[1]
Named = TypeVar("Named", "Lab", "Challenge")

# The order in which a trainee meets them; a lab that is not named here comes after these.
ORDER = (
    *("unique", "fork", "herd", "reuseport", "balance"),
    *("euid", "netns", "userns", "containers"),
    *("reuseaddr", "timewait", "udp", "dualstack", "device"),
    *("passing", "restart", "crash", "scale"),
    *("nginx", "haproxy", "gunicorn"),
)


# The order of challenges of one lab, from the easiest; others come after these.
CHALLENGES = (
    *("twins", "gate", "drainer"),
    *("share", "drop", "give"),
    *("graceful", "respawn", "handover"),
)


def find_labs(folder: Path = LABS, package: str = "labs") -> list[Lab]:
    """All labs in the order of the course; one that cannot be loaded says so when it is run."""
    return [find_lab(name, f"{package}.{name}.lab") for name in list_labs(folder)]


def list_labs(folder: Path) -> list[str]:
    """The names of all labs, in the order of the course."""
    names = [path.parent.name for path in folder.glob("*/lab.py")]
    return sorted(
        names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)
    )


def find_lab(name: str, module_name: str) -> Lab:
    """The lab of one module; one that stands for it where it cannot be loaded."""
    try:
        return load_lab(name, module_name)
    except EngineError as error:
        return broken_lab(name, error.message)


def load_lab(name: str, module_name: str) -> Lab:
    """The lab of one module; raises EngineError for one that cannot be loaded."""
    return load(module_name, Lab, name)


def load(module_name: str, kind: type[Named], name: str) -> Named:
    """What a module has to have one of, by this name; raises EngineError where it has not."""
    try:
        module = importlib.import_module(module_name)
    except Interrupted:
        raise
    except (Exception, SystemExit) as error:
        raise EngineError(f"{type(error).__name__} at {last_place(error)}: {error}") from error
    found = [value for value in vars(module).values() if isinstance(value, kind)]
    if len(found) != 1 or found[0].name != name:
        what = kind.__name__.lower()
        raise EngineError(f"{module.__file__} must have one {what}, named {name}.")
    return found[0]


def broken_lab(name: str, problem: str) -> Lab:
    """What stands for a lab that cannot be loaded: all it does is to fail."""

    def fail(_run: Run) -> None:
        raise EngineError(f"The lab {name} cannot be loaded: {problem}")

    return Lab(name, f"cannot be loaded: {problem}", fail)


def last_place(error: BaseException) -> str:
    """The file and line at which an error was raised, or where a script's text has it."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"


def place_in(order: Sequence[str], name: str) -> int:
    """Where a name stands in an order; after all others where it does not."""
    return order.index(name) if name in order else len(order)


def find_challenges(folder: Path = LABS, package: str = "labs") -> list[Challenge]:
    """All challenges, in the order of their labs; raises EngineError for one that is broken."""
    found = []
    for lab in list_labs(folder):
        for name in list_challenges(folder / lab):
            try:
                found.append(load_challenge(name, f"{package}.{lab}"))
            except EngineError as error:
                raise EngineError(
                    f"The challenge {name} cannot be loaded: {error.message}"
                ) from error
    return found


def list_challenges(folder: Path) -> list[str]:
    """The names of the challenges of the lab in a folder, from the easiest."""
    names = [path.parent.name for path in folder.glob("challenge/*/check.py")]
    return sorted(names, key=lambda name: (place_in(CHALLENGES, name), name))


def load_challenge(name: str, package: str) -> Challenge:
    """A challenge of the lab in this package; raises EngineError where it cannot be loaded."""
    from labs.engine.challenge import Challenge

    return load(f"{package}.challenge.{name}.check", Challenge, name)


def find_challenge(name: str) -> Challenge:
    """The challenge of this name; UsageError where there is none."""
    labs = {name: lab for lab in list_labs(LABS) for name in list_challenges(LABS / lab)}
    if name not in labs:
        raise UsageError(f"There is no exercise {name}.", f"There are {', '.join(labs)}.")
    return load_challenge(name, f"labs.{labs[name]}")
