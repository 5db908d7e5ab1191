"""A kernel that can be booted, and the machines that boot kernels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Machine(StrEnum):
    """What boots a kernel: User-Mode Linux is a process, QEMU emulates a PC."""

    UML = "uml"
    QEMU = "qemu"


@dataclass(frozen=True)
class Kernel:
    """A kernel that is there.

    `name` is what --kernel calls it, a version of the catalogue or a path. `image` is the UML
    binary, or a bzImage (vmlinuz). `modules` is the folder that `modprobe --dirname` would have at
    lib/modules/RELEASE, None where the kernel brings none.
    """

    name: str
    machine: Machine
    image: Path
    modules: Path | None = None
