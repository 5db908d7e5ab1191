"""Makes what a full kernel starts from: modules and a shell that find the machine's files."""

from __future__ import annotations

import gzip
import lzma
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.backends.program import need
from labs.engine.errors import CannotRun
from labs.engine.kernels.dependencies import loading_order, module_name, read_dependencies

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT_TAG = "machine"  # the name of the machine's files on the virtual hardware
# Distributions build some of these in and others not; what is not there is built in.
MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p")
SHELL_HINT = "sudo apt-get install busybox-static"
SHELLS = ("/bin/busybox", "/usr/bin/busybox")  # Debian's older and newer places
PROGRAM_INTERPRETER = 3  # PT_INTERP of an ELF program header
# The cache is for files that do not change: the guest's view is read-only and short-lived.
INIT = """#!/bin/busybox sh
b=/bin/busybox
fail() {{ echo "bindlab: $1"; $b poweroff -f; }}
for module in {modules}; do $b insmod /modules/$module; done
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose {tag} /machine ||
    fail "this kernel cannot reach the machine's files"
$b mount -t devtmpfs devices /machine/dev || fail "this kernel has no devtmpfs"
{exports}
exec $b switch_root /machine {guest}
"""

FOLDER, PROGRAM, FILE, DEVICE = 0o40755, 0o100755, 0o100644, 0o20600
CONSOLE = (5, 1)  # /dev/console


def make_initramfs(
    modules: Path | None, guest: Sequence[str], environment: Mapping[str, str]
) -> bytes:
    """A cpio archive whose init runs the guest's first program on the machine's files.

    They are read-only there, and /dev has the guest's devices; nothing else is mounted.
    CannotRun where there is no static busybox, or no program for the modules' compression.
    """
    loaded = dict(read_modules(modules)) if modules else {}
    init = INIT.format(
        modules=shlex.join(loaded),
        tag=ROOT_TAG,
        exports="\n".join(
            f"export {name}={shlex.quote(environment[name])}" for name in environment
        ),
        guest=shlex.join(guest),
    )
    members = [pack(name, FOLDER) for name in ("bin", "dev", "machine", "modules")]
    members.append(pack("dev/console", DEVICE, device=CONSOLE))
    members.append(pack("bin/busybox", PROGRAM, find_shell().read_bytes()))
    members += [pack(f"modules/{name}", FILE, data) for name, data in loaded.items()]
    members.append(pack("init", PROGRAM, init.encode()))
    members.append(pack("TRAILER!!!", 0))
    return b"".join(members)


def pack(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """A member of a cpio archive in the form newc: owned by root, linked once."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return align(head) + align(data)


def align(data: bytes) -> bytes:
    """The data, filled up to a multiple of four bytes."""
    return data + bytes(-len(data) % 4)


def read_modules(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The modules to load, decompressed, in the order in which they can be."""
    depends = read_dependencies((folder / "modules.dep").read_text())
    for path in loading_order(MODULES, depends):
        yield module_name(path), decompress(folder / path)


def decompress(path: Path) -> bytes:
    """What is in a file that may be compressed, as its name tells."""
    data = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case ".zst":
            command = [need("zstd", "sudo apt-get install zstd"), "--decompress", "--stdout"]
            return subprocess.run(command, input=data, capture_output=True, check=True).stdout
    return data


def find_shell() -> Path:
    """A busybox that needs no library; CannotRun where there is none."""
    for path in map(Path, SHELLS):
        if path.exists() and is_static(path):
            return path
    raise CannotRun("There is no static busybox, with which a full kernel starts.", SHELL_HINT)


def is_static(path: Path) -> bool:
    """Whether a program for 64 bits needs no dynamic linker."""
    with path.open("rb") as file:
        header = file.read(4096)
    start, size, count = (
        int.from_bytes(header[offset : offset + width], "little")
        for offset, width in ((32, 8), (54, 2), (56, 2))  # e_phoff, e_phentsize, e_phnum
    )
    kinds = (header[start + number * size :][:4] for number in range(count))
    return PROGRAM_INTERPRETER.to_bytes(4, "little") not in kinds
