"""Boots full kernels of distributions in QEMU.

An own initramfs and an uncompressed kernel, not virtme-ng: without KVM a guest's first word comes
after 3 seconds and not after 12 to 21, QEMU is the only process, and it alone reads the machine's
files for the guest and lets nothing be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import shutil
import tempfile
import zlib
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun
from labs.engine.kernels.confinement import Command
from labs.engine.kernels.initramfs import ROOT_TAG, find_shell, make_initramfs
from labs.engine.kernels.store import find_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from labs.engine.kernels.confinement import Program
    from labs.engine.kernels.kernel import Kernel

QEMU = "qemu-system-x86_64"
QEMU_HINT = "sudo apt-get install --no-install-recommends qemu-system-x86 busybox-static"
CHANNEL_DEVICE = "/dev/vport0p1"  # the first port of the first virtio console
TRANSLATED = 32  # MiB of translated code; by default QEMU takes hundreds
# The kernel's tests of its ciphers take a fifth of an emulated boot; with several processors it
# would also measure an emulated clock for seconds.
OPTIONS = "console=ttyS0 quiet panic=-1 cryptomgr.notests=1 tsc=reliable"
CONSOLE = "/proc/self/fd/1"
EMULATION = f"tcg,tb-size={TRANSLATED}"

ELF = b"\x7fELF"
XZ = b"\xfd7zXZ\0"
GZIP = b"\x1f\x8b\x08"
GZIP_WINDOW = 31  # of zlib: the largest, and gzip's header expected


def check_qemu() -> None:
    """CannotRun where a program is missing that a boot in QEMU takes."""
    find_qemu()
    find_shell()


def find_qemu() -> str:
    """The path of QEMU; CannotRun where it is not installed."""
    path = shutil.which(QEMU)
    if path is None:
        raise CannotRun(f"{QEMU} is not installed.", QEMU_HINT)
    return path


def prepare_qemu(
    kernel: Kernel, guest: Sequence[str], variables: Mapping[str, str], memory: int, channel: int
) -> Program:
    """Make what a boot takes; what it returns boots it. CannotRun where something is missing."""
    folder = find_folder() / "boot"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        words = qemu_command(kernel, guest, variables, memory, channel, folder)
    except OSError as error:
        raise CannotRun(f"Could not prepare a boot: {error.strerror}: {error.filename}.") from error
    return lambda _scratch: Command(words[0], tuple(words))


def qemu_command(
    kernel: Kernel,
    guest: Sequence[str],
    variables: Mapping[str, str],
    memory: int,
    channel: int,
    folder: Path,
) -> list[str]:
    """The command that boots a kernel and runs `guest` in it, with CHANNEL_DEVICE appended.

    The guest has `memory` MiB, what is QEMU's own comes on top of it; its console is standard
    output, a pipe or a file, and `channel` a connected stream socket. What is made for the boot is
    kept in `folder`: the uncompressed kernel serves all later boots. Emulated processors wait for
    one another: there is one. CannotRun where a program is missing, OSError where the modules'
    index is, or nothing can be written.
    """
    words = (*guest, CHANNEL_DEVICE)
    initramfs = make_initramfs(kernel.modules, words, variables)
    image = keep_uncompressed(kernel.image, folder)
    start = keep(folder / f"initramfs-{hashlib.sha256(initramfs).hexdigest()[:16]}", initramfs)
    return [
        *(find_qemu(), "-no-user-config", "-nodefaults", "-no-reboot", "-display", "none"),
        *("-machine", "q35", "-accel", EMULATION, "-cpu", "max"),
        *("-smp", "1", "-m", str(memory), "-nic", "none"),
        *("-kernel", str(image), "-initrd", str(start), "-append", OPTIONS),
        # Through /proc, as no option takes a descriptor that is not a socket.
        *("-chardev", f"file,id=console,path={CONSOLE},append=on"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=channel,fd={channel}"),
        *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=channel"),
        # Files of several file systems have the same numbers, which must differ in the guest.
        *("-fsdev", "local,id=root,path=/,readonly=on,security_model=none,multidevs=remap"),
        *("-device", f"virtio-9p-pci,fsdev=root,mount_tag={ROOT_TAG}"),
    ]


def keep_uncompressed(image: Path, folder: Path) -> Path:
    """The kernel that a bzImage unpacks to, kept in the folder; the bzImage where it cannot be.

    An emulated processor takes seconds for xz; of zstd, which it unpacks in half a second, the
    standard library knows nothing.
    """
    status = image.stat()
    identity = f"{image.resolve()} {status.st_mtime_ns} {status.st_size} {status.st_ino}"
    path = folder / f"vmlinux-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if path.exists():
        return path
    kernel = next(find_kernels(image.read_bytes()), None)
    return image if kernel is None else keep(path, kernel)


def find_kernels(data: bytes) -> Iterator[bytes]:
    """What unpacks to an ELF file within a bzImage; the boot protocol does not say where it is."""
    for magic in (XZ, GZIP):
        start = data.find(magic)
        while start >= 0:
            with contextlib.suppress(lzma.LZMAError, zlib.error):
                content = unpack(magic, data[start:])
                if content.startswith(ELF):
                    yield content
            start = data.find(magic, start + 1)


def unpack(magic: bytes, data: bytes) -> bytes:
    """What is compressed, whatever comes behind it; empty where it has no end.

    Raises LZMAError or zlib.error.
    """
    unpacker = lzma.LZMADecompressor() if magic == XZ else zlib.decompressobj(GZIP_WINDOW)
    content = unpacker.decompress(data)
    return content if unpacker.eof else b""


def keep(path: Path, data: bytes) -> Path:
    """Write a file, whole or not at all, unless it is there; raises OSError."""
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.rename(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    return path
