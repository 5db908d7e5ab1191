"""User-Mode Linux: a kernel that is a process (Documentation/virt/uml of the kernel's source)."""

from __future__ import annotations

import ctypes
import mmap
import re
from typing import TYPE_CHECKING

from labs.engine.kernels.confinement import Command
from labs.engine.system import libc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from labs.engine.kernels.kernel import Kernel

# Nine tenths of the default boot: a benchmark of RAID's checksums, a file system's self-test, and
# buffers to swap what a guest without swap never does.
BLACKLIST = (
    *("raid6_select_algo", "raid6_init", "init_btrfs_fs", "calibrate_xor_blocks"),
    "init_zswap",
)

# Before this version a kernel keeps 2,696 bytes of a process's registers (HOST_FP_SIZE): AVX-512
# and protection keys. Where the processor has more, as AMX, ptrace(2) takes none back from it, and
# the guest panics; it does with those of FXSAVE where ptrace knows no others.
KEEPS_ALL_REGISTERS = (6, 13)
AT_MINSIGSTKSZ = 51  # getauxval(3): what a signal takes of the stack, with all registers
LARGEST_SIGNAL = 4096  # bytes, with those 2,696
# AVX's registers are then lost at each page fault, so nobody may use them: the C library and
# OpenSSL are told. What is compiled for any x86-64 does not.
NO_AVX = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load",
    "OPENSSL_ia32cap": "~0x1000000000000000:~0x600c0230020",
}


def uml_command(
    kernel: Kernel,
    program: Sequence[str],
    variables: Mapping[str, str],
    memory: int,
    channel: int,
    scratch: str,
) -> Command:
    """What boots a kernel whose first program is this one, with these variables set.

    It has `memory` MiB. Its console is standard output, and what the program writes to and reads
    from /dev/tty1 goes over the descriptor `channel`. It writes to the folder `scratch`.
    """
    init, *arguments = program
    few_registers = has_many_registers() and read_version(kernel.image) < KEEPS_ALL_REGISTERS
    if few_registers:
        variables = {**variables, **NO_AVX}
    options = (
        f"mem={memory}M",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        "con=null",
        "con0=fd:0,fd:1",
        f"con1=fd:{channel},fd:{channel}",
        f"uml_dir={scratch}/",
        "initcall_blacklist=" + ",".join(BLACKLIST),
        "pty.legacy_count=0",
        "seccomp=auto",  # faster than ptrace(2), where the kernel knows it (since 6.16)
        "lpj=4000000",  # or it would measure how fast this processor is, for 0.1 s
        "quiet",
        "panic=-1",
        f"init={quoted(init)}",
        *(f"{name}={quoted(value)}" for name, value in variables.items()),
        "--",
        *arguments,
    )
    path = str(kernel.image)
    return Command(path, (path, *options), {"TMPDIR": scratch}, few_registers)


def has_many_registers() -> bool:
    """Whether this processor has more registers than an old UML keeps."""
    getauxval = libc.getauxval
    getauxval.restype = ctypes.c_ulong
    return int(getauxval(ctypes.c_ulong(AT_MINSIGSTKSZ))) > LARGEST_SIGNAL


def read_version(image: Path) -> tuple[int, ...]:
    """Version and patch level of a kernel that is a program, from its banner; () without one."""
    with (
        image.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        banner = re.search(rb"Linux version (\d+)\.(\d+)", content)
        return tuple(map(int, banner.groups())) if banner else ()


def quoted(value: str) -> str:
    """A value of the kernel's command line, which ends at a space otherwise (next_arg())."""
    return f'"{value}"' if " " in value else value
