"""Tells what boots a file of one's own: a UML binary, a bzImage, or nothing."""

from __future__ import annotations

import mmap
import os
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, UsageError
from labs.engine.kernels.kernel import Kernel, Machine

if TYPE_CHECKING:
    from typing import IO

ELF_64 = b"\x7fELF\x02\x01"  # little-endian
ELF_MACHINE = 18  # offset
ELF_X86_64 = 62
UML_USAGE = b"User Mode Linux v"  # what it begins its --help with

# Offsets of the x86 boot protocol.
SETUP_MAGIC, SETUP_VERSION = 0x202, 0x20E
SETUP_START = 0x200  # what SETUP_VERSION counts from
RELEASE_SIZE = 256  # at most

MODULES = Path("/lib/modules")  # the machine's, by release

HINT = "A kernel is a User-Mode Linux binary or a bzImage (vmlinuz), both for x86-64."


def read_own_kernel(text: str) -> Kernel:
    """The kernel at a path.

    Its modules are in a folder `modules` beside it, where that has a modules.dep, else those that
    this machine has of the same release. CannotRun where nothing is there, UsageError where it is
    no kernel or cannot be read.
    """
    path = Path(os.path.abspath(text))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{text} is no kernel: not a file.", HINT)
        with path.open("rb") as file:
            if is_uml(file):
                machine, release = Machine.UML, ""
            elif is_bz_image(file):
                machine, release = Machine.QEMU, read_release(file)
            else:
                raise UsageError(f"{text} is no kernel.", HINT)
    except (FileNotFoundError, NotADirectoryError):
        raise CannotRun(f"There is no kernel at {text}.") from None
    except OSError as error:
        raise UsageError(f"{text} cannot be read: {error.strerror}.") from None
    if machine is Machine.UML and not os.access(path, os.X_OK):
        raise UsageError(f"{text} cannot be executed.", f"chmod +x {text}")
    return Kernel(text, machine, path, find_modules(path, release))


def find_modules(path: Path, release: str) -> Path | None:
    """The modules of the kernel at a path, None where it has none."""
    beside = path.with_name("modules")
    if (beside / "modules.dep").is_file():
        return beside
    installed = MODULES / release
    return installed if release and installed.is_dir() else None


def is_uml(file: IO[bytes]) -> bool:
    """Whether this is a UML kernel: a program for x86-64 that has UML's help in it."""
    header = read_at(file, 0, 64)
    if not header.startswith(ELF_64) or len(header) < 64:
        return False
    if struct.unpack_from("<H", header, ELF_MACHINE) != (ELF_X86_64,):
        return False
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(UML_USAGE) >= 0


def is_bz_image(file: IO[bytes]) -> bool:
    """Whether this has the header of Linux's boot protocol for x86."""
    return read_at(file, SETUP_MAGIC, 4) == b"HdrS"


def read_release(file: IO[bytes]) -> str:
    """The release that a bzImage names, as uname -r says it; empty where it names none."""
    (offset,) = struct.unpack("<H", read_at(file, SETUP_VERSION, 2).ljust(2, b"\0"))
    if not offset:
        return ""
    words = read_at(file, SETUP_START + offset, RELEASE_SIZE).split(b"\0")[0].split()
    release = words[0].decode(errors="replace") if words else ""
    return "" if "/" in release else release


def read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    """What is there, or less at the end of the file."""
    file.seek(offset)
    return file.read(size)
