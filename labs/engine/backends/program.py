"""Runs programs that make something, so that none outlives what it is for."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

LAST_LINES = 6  # that are shown of a program that failed
PATIENCE = 10.0  # seconds: for a program that was asked to end
# The kernel ends a program started so when the thread that started it ends, however it does.
BOUND = ("setpriv", "--pdeathsig", "KILL")


class ProgramFailed(Exception):
    """A program ended with another status than 0; `words` are the lines of its errors."""

    def __init__(self, command: Sequence[str], status: int, words: Sequence[str]) -> None:
        name = os.path.basename(command[0])
        super().__init__(f"{name} ended with status {status}")
        self.words = tuple(words)

    def quote(self, start: str = "") -> str:
        """The last of its errors that start so, as a hint shows lines."""
        lines = [line for line in self.words if line.startswith(start)]
        return "\n  ".join(lines[-LAST_LINES:])


def need(program: str, hint: str) -> str:
    """The path of a program; CannotRun with the hint where it is not installed."""
    # An ordinary user's PATH leaves out the folders of programs for root.
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise CannotRun(f"{program} is not installed.", hint)
    return path


def follow(
    command: Sequence[str], folder: Path, changes: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a program in a folder and yield the lines of its output; raises ProgramFailed."""
    # In memory: what is to be said may be that the disk is full.
    with os.fdopen(os.memfd_create("errors"), "w+b") as errors:
        with started(command, folder, changes or {}, errors) as process:
            assert process.stdout is not None
            for data in process.stdout:
                yield data.decode(errors="replace").rstrip("\n")
            status = process.wait()
        if status:
            errors.seek(0)
            words = errors.read().decode(errors="replace").splitlines()
            raise ProgramFailed(command, status, words)


def read(command: Sequence[str], folder: Path, changes: Mapping[str, str] | None = None) -> str:
    """Run a program in a folder to its end; its output. Raises ProgramFailed."""
    return "\n".join(follow(command, folder, changes))


@contextlib.contextmanager
def started(
    command: Sequence[str], folder: Path, changes: Mapping[str, str], errors: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that goes with the thread that started it, and ends with the block."""
    process = subprocess.Popen(
        [*BOUND, *command],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8", **changes},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
    )
    with ending(process):
        yield process


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is asked to end, and then made to, when the block is left before its end."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
                process.kill()
