"""User-Mode Linux: a kernel that is a process (Documentation/virt/uml of the kernel's source)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.kernels.confinement import Command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labs.engine.kernels.kernel import Kernel

# Nine tenths of the default boot: a benchmark of RAID's checksums, a file system's self-test, and
# buffers to swap what a guest without swap never does.
BLACKLIST = (
    *("raid6_select_algo", "raid6_init", "init_btrfs_fs", "calibrate_xor_blocks"),
    "init_zswap",
)


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
    return Command(str(kernel.image), (str(kernel.image), *options), {"TMPDIR": scratch})


def quoted(value: str) -> str:
    """A value of the kernel's command line, which ends at a space otherwise (next_arg())."""
    return f'"{value}"' if " " in value else value
