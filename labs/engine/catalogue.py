"""Finds the labs: every folder of `labs/` that has a lab.py."""

import importlib
import traceback
from pathlib import Path

from labs.engine.errors import EngineError, Interrupted
from labs.engine.script import Lab, Run

LABS = Path(__file__).parents[1]

# The order in which a trainee meets them; a lab that is not named here comes after these.
ORDER = (
    *("unique", "fork", "herd", "reuseport", "balance"),
    *("euid", "netns", "userns", "containers"),
    *("reuseaddr", "timewait", "udp", "dualstack", "device"),
    *("passing", "restart", "crash", "scale"),
    *("nginx", "haproxy", "gunicorn"),
)


def find_labs(folder: Path = LABS, package: str = "labs") -> list[Lab]:
    """All labs in the order of the course; one that cannot be loaded says so when it is run."""
    names = [path.parent.name for path in sorted(folder.glob("*/lab.py"))]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return [find_lab(name, f"{package}.{name}.lab") for name in names]


def find_lab(name: str, module_name: str) -> Lab:
    """The lab of one module."""
    try:
        module = importlib.import_module(module_name)
    except Interrupted:
        raise
    except (Exception, SystemExit) as error:
        return broken_lab(name, f"{type(error).__name__} at {last_place(error)}: {error}")
    labs = [value for value in vars(module).values() if isinstance(value, Lab)]
    if len(labs) != 1 or labs[0].name != name:
        return broken_lab(name, f"{module.__file__} must have one lab, named {name}.")
    return labs[0]


def broken_lab(name: str, problem: str) -> Lab:
    """What stands for a lab that cannot be loaded: all it does is to fail."""

    def fail(_run: Run) -> None:
        raise EngineError(f"The lab {name} cannot be loaded: {problem}")

    return Lab(name, f"cannot be loaded: {problem}", fail)


def last_place(error: BaseException) -> str:
    """The file and line at which an error was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
