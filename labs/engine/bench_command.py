"""Measures whole commands."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from labs.engine.chores import ROOT
from labs.engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEADLINE = 300.0  # seconds: for a command that takes less than thirty


def time_command(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """How long a command takes whose output is read from a pipe and thrown away, in seconds.

    Raises EngineError where it fails, with the last line that it wrote, or does not end.
    """
    start = perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{' '.join(command)} hangs: {DEADLINE:g} seconds.") from None
    seconds = perf_counter() - start
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise EngineError(f"{' '.join(command)} failed: {''.join(last)}")
    return seconds


def time_invoke(*arguments: str) -> float:
    """How long one of this project's commands takes, in seconds; raises EngineError."""
    return time_command([sys.executable, "-m", "invoke", *arguments])
