"""What developers run, each as it would be by hand, from the project's root; and cleaning up."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from labs.engine.errors import CannotRun, ExitStatus, UsageError

ROOT = Path(__file__).parents[2]


def run_tests(tier: str) -> ExitStatus:
    """Run pytest over all tests, or over those of one tier, a module on each processor.

    UsageError for an unknown tier.
    """
    tiers = sorted(path.parent.name for path in ROOT.glob("tests/*/__init__.py"))
    if tier and tier not in tiers:
        raise UsageError(f"There is no tier {tier}; there are {', '.join(tiers)}.")
    processors = len(os.sched_getaffinity(0))
    spread = [f"--numprocesses={processors}", "--dist=loadfile", "--no-loadscope-reorder"]
    return run_all([["pytest", *spread, f"tests/{tier}"]])


def run_linters() -> ExitStatus:
    """Run ruff and mypy, both to their end."""
    return run_all([["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]])


def clean_engine() -> ExitStatus:
    """Remove what runs that are over have left on a Docker engine, and say what."""
    from labs.engine.backends.docker.cleaning import clean
    from labs.engine.backends.docker.client import connected

    with connected() as client:
        cleaned = clean(client)
    for item in cleaned.removed:
        sys.stdout.write(f"removed {item.kind} {item.name}\n")
    runs = {item.run for item in cleaned.left}
    if runs:
        sys.stdout.write(
            f"left alone: {len(runs)} that {'is' if len(runs) == 1 else 'are'} still going on\n"
        )
    if cleaned.failures:
        raise cleaned.failures[0]
    if not cleaned.removed:
        sys.stdout.write("Nothing to clean: no run that is over has left anything.\n")
    return ExitStatus.PASSED


def run_all(commands: Sequence[Sequence[str]]) -> ExitStatus:
    """Run modules of this interpreter; FAILED if one of them failed."""
    missing = [command[0] for command in commands if not has_module(command[0])]
    if missing:
        raise CannotRun(
            f"{', '.join(sorted(set(missing)))} is not installed.",
            f"{sys.executable} -m pip install --editable '{ROOT}[dev]'",
        )
    codes = [
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode
        for command in commands
    ]
    return ExitStatus.FAILED if any(codes) else ExitStatus.PASSED


def has_module(name: str) -> bool:
    """Whether this interpreter can run the module of this name."""
    from importlib.util import find_spec

    return find_spec(name) is not None
