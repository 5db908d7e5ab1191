"""Keeps a process from changing files where it may have no namespaces: Landlock and seccomp.

Landlock (landlock(7), since 5.13) refuses to write, make and remove files, and from 6.7 on TCP
connections. It knows nothing of modes, owners, times and attributes: those calls are refused by a
seccomp filter (seccomp(2)). Neither takes a privilege, and what is executed has both.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING

from labs.engine.system import PR_SET_NO_NEW_PRIVS, checked, libc, prctl

if TYPE_CHECKING:
    from collections.abc import Sequence

SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
# All of LANDLOCK_ACCESS_FS_* but to execute, to read files and to read folders.
CHANGES = 0x1FFF & ~0b1101
REFER, TRUNCATE = 1 << 13, 1 << 14
BIND_TCP, CONNECT_TCP = 1, 2
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000
AUDIT_ARCH_X86_64 = 0xC000003E
# BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
X32_SYSCALL_BIT = 0x40000000  # the same calls by other numbers
NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
# UML does it once, to its own memory's file, and would end without.
FCHMOD = 91
PTRACE = 101
REQUEST, ADDRESS = 16, 32  # ptrace()'s first and third argument, offsets in struct seccomp_data
PTRACE_GETREGSET, PTRACE_SETREGSET = 0x4204, 0x4205
NT_X86_XSTATE = 0x202
# On x86-64, which is all that UML runs on here.
REFUSED = (
    *(90, 268, 452),  # chmod, fchmodat, fchmodat2
    *(92, 93, 94, 260),  # chown, fchown, lchown, fchownat
    *(132, 235, 261, 280),  # utime, utimes, futimesat, utimensat
    *(188, 189, 190, 463),  # setxattr, lsetxattr, fsetxattr, setxattrat
    *(197, 198, 199, 466),  # removexattr, lremovexattr, fremovexattr, removexattrat
)


def restrict(folder: str) -> None:
    """Let nothing be changed but below this folder, by this process and its descendants, for good.

    Raises OSError: ENOSYS or EOPNOTSUPP where the kernel has no Landlock.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    restrict_changes(folder)
    refuse_calls()


def restrict_changes(folder: str) -> None:
    """Landlock's part."""
    version = checked(
        libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    )
    files = CHANGES | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    network = BIND_TCP | CONNECT_TCP
    handled = struct.pack("=QQ", files, network) if version >= 4 else struct.pack("=Q", files)
    ruleset = checked(libc.syscall(SYS_LANDLOCK_CREATE_RULESET, handled, len(handled), 0))
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    rule = struct.pack("=Qi", files, place)
    checked(libc.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0))
    checked(libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(place)
    os.close(ruleset)


def refuse_calls() -> None:
    """Seccomp's part: the refused calls fail with EROFS, and fchmod() does nothing."""
    returns = dict.fromkeys(REFUSED, SECCOMP_RET_ERRNO | errno.EROFS)
    returns[FCHMOD] = SECCOMP_RET_ERRNO
    instructions = []
    for number, result in returns.items():
        instructions += [
            instruction(JUMP_IF_EQUAL, number, 0, 1),
            instruction(RETURN, result),
        ]
    filter_calls(instructions)


def hide_extended_registers() -> None:
    """Let ptrace(2) know no registers but those of FXSAVE, for good: EIO, as from old hardware.

    Raises OSError where PR_SET_NO_NEW_PRIVS is not set.
    """
    filter_calls(
        [
            instruction(JUMP_IF_EQUAL, PTRACE, 0, 6),
            instruction(LOAD, REQUEST),
            instruction(JUMP_IF_EQUAL, PTRACE_GETREGSET, 1, 0),
            instruction(JUMP_IF_EQUAL, PTRACE_SETREGSET, 0, 3),
            instruction(LOAD, ADDRESS),
            instruction(JUMP_IF_EQUAL, NT_X86_XSTATE, 0, 1),
            instruction(RETURN, SECCOMP_RET_ERRNO | errno.EIO),
        ]
    )


def filter_calls(instructions: Sequence[bytes]) -> None:
    """Install a filter; it begins with a call's number loaded, and allows what it does not name."""
    program = [
        instruction(LOAD, ARCHITECTURE),
        instruction(JUMP_IF_EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        instruction(RETURN, SECCOMP_RET_KILL_PROCESS),
        instruction(LOAD, NUMBER),
        instruction(JUMP_IF_AT_LEAST, X32_SYSCALL_BIT, 0, 1),
        instruction(RETURN, SECCOMP_RET_KILL_PROCESS),
        *instructions,
        instruction(RETURN, SECCOMP_RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0))


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction of classic BPF: struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
