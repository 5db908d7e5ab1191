"""Boots full kernels of distributions in QEMU.

An own initramfs and an uncompressed kernel, not virtme-ng: without KVM a guest's first word comes
after 3 seconds and not after 12 to 21, QEMU starts no other process, and no file is shared but by
QEMU itself, which lets nothing be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import select
import socket
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun
from labs.engine.kernels.initramfs import ROOT_TAG, SHELL_HINT, find_shell, make_initramfs
from labs.engine.kernels.program import BOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from labs.engine.kernels.kernel import Kernel

QEMU = "qemu-system-x86_64"
QEMU_HINT = "sudo apt-get install --no-install-recommends qemu-system-x86 busybox-static"
CHANNEL_DEVICE = "/dev/vport0p1"  # the first port of the first virtio console
MEMORY = 192  # MiB; QEMU's own comes on top of it
TRANSLATED = 32  # MiB of translated code: by default hundreds
PROCESSORS = 1
# The kernel's tests of its own ciphers take a fifth of an emulated boot.
OPTIONS = "console=ttyS0 quiet panic=-1 cryptomgr.notests=1"
KVM_DEVICE = "/dev/kvm"
KVM_PATIENCE = 10.0  # seconds; a boot with a KVM that works takes one

ELF = b"\x7fELF"
COMPRESSIONS: Sequence[tuple[bytes, Callable[[], lzma.LZMADecompressor | zlib._Decompress]]] = (
    (b"\xfd7zXZ\0", lzma.LZMADecompressor),
    (b"\x1f\x8b\x08", lambda: zlib.decompressobj(wbits=31)),
)


def check_qemu() -> None:
    """CannotRun where a program is missing that booting in QEMU takes."""
    find_qemu()
    find_shell()


def find_qemu() -> Path:
    """The path of QEMU; CannotRun where it is not installed."""
    for folder in os.get_exec_path():
        path = Path(folder, QEMU)
        if os.access(path, os.X_OK):
            return path
    raise CannotRun(f"{QEMU} is not installed.", QEMU_HINT)
