"""The labels of all that a run makes on an engine: whose it is, and whether that run is over."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RUN = "bindlab.run"
CLIENT = "bindlab.client"


@dataclass(frozen=True)
class RunLabels:
    """What marks the containers and networks of one run: its own id, and its client process."""

    run: str
    client: str

    def as_dict(self) -> dict[str, str]:
        """The labels by name."""
        return {RUN: self.run, CLIENT: self.client}


def new_run() -> RunLabels:
    """The labels of a new run of this process."""
    return RunLabels(uuid.uuid4().hex[:12], describe_process(os.getpid()))


def client_is_gone(labels: Mapping[str, str]) -> bool | None:
    """Whether the process that made this has ended; None where it is one of another machine."""
    words = labels.get(CLIENT, "").split()
    if len(words) != 4 or words[:2] != describe_machine().split() or not words[2].isdecimal():
        return None
    pid = int(words[2])
    return describe_process(pid) != labels[CLIENT] or read_stat(pid)[:1] in ([], ["Z"])


def describe_machine() -> str:
    """This boot of this machine, and the pid namespace in which pids are counted."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"


def describe_process(pid: int) -> str:
    """A process as no other will be: where it runs, its pid and when it started, in clock ticks."""
    stat = read_stat(pid)
    return f"{describe_machine()} {pid} {stat[19]}" if stat else ""


def read_stat(pid: int) -> list[str]:
    """What /proc/PID/stat says, from the state on; nothing where there is no such process.

    A zombie is still there: it has ended, and nobody has asked for its status yet.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name, in parentheses, may contain anything.
    return stat.rpartition(")")[2].split()
