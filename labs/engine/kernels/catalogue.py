"""The kernels that are known by name, and how --kernel finds one: by name or by path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, UsageError
from labs.engine.kernels.image import read_own_kernel
from labs.engine.kernels.kernel import Kernel, Machine
from labs.engine.kernels.store import find_stored

if TYPE_CHECKING:
    from collections.abc import Sequence

UML_PACKAGE = "user-mode-linux"
QEMU_PACKAGE = "linux-image-amd64"  # names the newest one of its suite by what it depends on
ALL = "all"


@dataclass(frozen=True)
class KnownKernel:
    """A kernel of Debian's: the suite that has it, and the package that it comes in."""

    version: str
    machine: Machine
    suite: str

    @property
    def package(self) -> str:
        """The package that is asked for."""
        return UML_PACKAGE if self.machine is Machine.UML else QEMU_PACKAGE

    @property
    def full_name(self) -> str:
        """Its name with the machine, as uml:6.1."""
        return f"{self.machine}:{self.version}"

    @property
    def name(self) -> str:
        """Its shortest name: the version alone, where this is the first machine that has it."""
        first = next(known for known in KNOWN if known.version == self.version)
        return self.version if first is self else self.full_name


KNOWN = (
    KnownKernel("5.10", Machine.UML, "bullseye"),
    KnownKernel("6.1", Machine.UML, "bookworm"),
    KnownKernel("6.12", Machine.UML, "trixie"),
    KnownKernel("7.2", Machine.UML, "forky"),
    KnownKernel("5.10", Machine.QEMU, "bullseye"),
    KnownKernel("6.1", Machine.QEMU, "bookworm"),
    KnownKernel("6.12", Machine.QEMU, "trixie"),
    KnownKernel("7.2", Machine.QEMU, "forky"),
    KnownKernel("7.3", Machine.QEMU, "experimental"),
)


def find_kernel(text: str) -> Kernel:
    """The kernel that --kernel names.

    UsageError for an unknown name and a file that is no kernel; CannotRun for a kernel that was
    not fetched, and for a path where nothing is: a build that failed, to git bisect.
    """
    if known := find_known(text):
        stored = find_stored(known.full_name)
        if stored is None:
            raise CannotRun(
                f"Kernel {known.name} was not fetched.", f"invoke kernel.fetch {known.name}"
            )
        return Kernel(known.name, known.machine, stored.image, stored.modules)
    if "/" in text or os.path.lexists(text):
        return read_own_kernel(text)
    raise unknown(text)


def find_known(text: str) -> KnownKernel | None:
    """The kernel of this name, short or full; None where there is none."""
    return next((known for known in KNOWN if text in (known.name, known.full_name)), None)


def choose_known(text: str) -> Sequence[KnownKernel]:
    """The kernels of a list: names, machines (all that it boots) or `all`, with commas between.

    Each once, in the catalogue's order. UsageError where one is unknown.
    """
    chosen: set[KnownKernel] = set()
    for name in filter(None, text.split(",")):
        named = [known for known in KNOWN if name in (ALL, known.machine)]
        if not named:
            known = find_known(name)
            if known is None:
                raise unknown(name)
            named = [known]
        chosen.update(named)
    if not chosen:
        raise unknown(text)
    return [known for known in KNOWN if known in chosen]


def unknown(name: str) -> UsageError:
    """The error for a name that is none, with those that are."""
    names = ", ".join(known.name for known in KNOWN)
    return UsageError(f"There is no kernel {name!r}; there are {names}.")
