"""Measures isolated kernels: which there are, and what virtme-ng takes for one."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.bench_command import time_command
from labs.engine.chores import ROOT
from labs.engine.errors import CannotRun, EngineError
from labs.engine.kernels.catalogue import choose_known, find_kernel
from labs.engine.kernels.kernel import Machine
from labs.engine.kernels.qemu import check_qemu
from labs.engine.kernels.store import find_stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.kernels.store import Stored

VERSION = "6.12"
LAB = "lab.euid"


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
    # It calls programs of its own by their names alone.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    command = [guest.program, "--run", str(guest.image), *machine, "--", lab]
    try:
        return time_command(command, os.environ | {"PATH": path})
    except EngineError as error:
        raise CannotRun(f"virtme-ng does not run the lab: {error.message}") from error
