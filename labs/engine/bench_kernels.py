"""Measures isolated kernels: against this machine's own, each other, and virtme-ng."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from labs.engine.chores import ROOT
from labs.engine.errors import CannotRun, EngineError
from labs.engine.kernels.catalogue import choose_known, find_kernel
from labs.engine.kernels.kernel import Machine
from labs.engine.kernels.qemu import check_qemu
from labs.engine.kernels.store import find_stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.kernels.store import Stored

VERSION = "6.12"
LAB = "lab.euid"
VIRTME_DEADLINE = 300.0  # seconds


@dataclass(frozen=True)
class VirtmeGuest:
    """A full kernel as virtme-ng wants it: its program, and the kernel's path."""

    program: str
    image: Path


def usual_kernels() -> str:
    """All User-Mode Linux kernels of the catalogue, as --kernels takes them; CannotRun without."""
    names = [known.name for known in choose_known(Machine.UML)]
    for name in names:
        find_kernel(name)
    return ",".join(names)


def time_lab(*options: str) -> float:
    """How long the whole command takes that runs LAB with these options, in seconds."""
    return time_invoke(LAB, *options)


def time_matrix(*options: str) -> float:
    """How long `invoke kernel.matrix` takes with these options, in seconds."""
    return time_invoke("kernel.matrix", *options)


def time_invoke(*arguments: str) -> float:
    """How long a command of ours takes whose output is thrown away; EngineError if it fails."""
    return time_run([sys.executable, "-m", "invoke", *arguments])


def time_run(command: Sequence[str]) -> float:
    """How long a command takes; EngineError with the last line that it wrote if it fails."""
    # virtme-ng calls programs of its own by their names alone.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    start = perf_counter()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=VIRTME_DEADLINE,
    )
    seconds = perf_counter() - start
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise EngineError(f"{' '.join(command)} failed: {''.join(last)}")
    return seconds


@contextlib.contextmanager
def open_virtme() -> Iterator[VirtmeGuest]:
    """A full kernel of VERSION laid out as virtme-ng expects it; raises CannotRun."""
    scripts = sysconfig.get_path("scripts")
    program = shutil.which("vng", path=scripts) or shutil.which("vng")
    if program is None:
        raise CannotRun("virtme-ng is not installed (pip install virtme-ng)")
    check_qemu()
    stored = find_full_kernel()
    with tempfile.TemporaryDirectory(prefix="bindlab-") as name:
        root = Path(name)
        image = root / "boot" / f"vmlinuz-{stored.release}"
        modules = root / "lib" / "modules"
        for folder in (image.parent, modules):
            folder.mkdir(parents=True)
        image.symlink_to(stored.image)
        (modules / stored.release).symlink_to(stored.modules)
        yield VirtmeGuest(program, image)


def find_full_kernel() -> Stored:
    """The full kernel of VERSION; CannotRun where it was not fetched."""
    name = f"{Machine.QEMU}:{VERSION}"
    stored = find_stored(name)
    if stored is None:
        raise CannotRun(f"{name} was not fetched (invoke kernel.fetch {name})")
    return stored


def time_virtme(guest: VirtmeGuest) -> float:
    """How long virtme-ng takes to boot a kernel without KVM and run LAB in it, in seconds.

    Raises CannotRun where it does not get there: that is not our fault.
    """
    lab = f"cd {ROOT} && {sys.executable} -m invoke {LAB}"
    machine = ("--disable-kvm", "--cpus", "1", "--memory", "512M", "--rw")
    try:
        return time_run([guest.program, "--run", str(guest.image), *machine, "--", lab])
    except (EngineError, subprocess.TimeoutExpired) as error:
        raise CannotRun(f"virtme-ng does not run the lab: {error}") from error
