"""System calls that Python's os module does not offer, and how a process becomes a user.

Standard library only, like the agent that it is carried with.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
SYS_PIDFD_GETFD = 438  # the same number on every architecture (since 5.6)
CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3 of capset(2)
ALL_CAPABILITIES = (1 << 64) - 1  # as many as the sets have room for

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """The result of a C library call, or the OSError that its errno says."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, value: int | bytes, second: int = 0) -> None:
    """prctl(2) with up to two arguments."""
    checked(libc.prctl(option, value, second, 0, 0))


def unshare(flags: int) -> None:
    """unshare(2)."""
    checked(libc.unshare(flags))


def setns(descriptor: int, kind: int) -> None:
    """setns(2)."""
    checked(libc.setns(descriptor, kind))


def mount(
    source: bytes, target: bytes, kind: bytes | None, flags: int = 0, data: bytes | None = None
) -> None:
    """mount(2)."""
    checked(libc.mount(source, target, kind, flags, data))


def pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """pidfd_getfd(2): a copy of another process's descriptor."""
    return checked(libc.syscall(SYS_PIDFD_GETFD, pidfd, descriptor, 0))


def setfsuid(uid: int) -> int:
    """setfsuid(2): sets the file-system uid and returns the one before; it reports no error."""
    return int(libc.setfsuid(uid))


def stand_alone(*descriptors: int) -> None:
    """Hold these descriptors and no others; the standard ones lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    keep_only(0, 1, 2, *descriptors)


def keep_only(*descriptors: int) -> None:
    """Close all descriptors but these."""
    low = 0
    for descriptor in sorted(descriptors):
        if low < descriptor:  # closerange(0, 0) would close them all
            os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def stay_readable() -> None:
    """Undo what a change of uid does to a process: /proc would hide it from its warm parent."""
    prctl(PR_SET_DUMPABLE, 1)


def take_user(uid: int, capabilities: int) -> None:
    """Become this user for good, with exactly these capabilities, a mask of capabilities(7)'s bits.

    They are permitted and effective, and what is executed has them too: root gets its bounding set
    (cap_bprm_creds_from_file()), any other user what is ambient. Needs CAP_SETUID, CAP_SETGID and
    CAP_SETPCAP; raises OSError.
    """
    limit_bounding_set(capabilities)
    # Without this all capabilities would go with root's uid (cap_emulate_setxid()).
    prctl(PR_SET_KEEPCAPS, 1)
    take_ids(uid)
    prctl(PR_SET_KEEPCAPS, 0)
    # Root's are not ambient: what it executes under another effective uid is to have none.
    inherited = capabilities if uid else 0
    set_capabilities(capabilities, inherited)
    for capability in list_bits(inherited):
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
    stay_readable()


def take_ids(uid: int) -> None:
    """Take this uid, the gid of the same number and no other groups; raises OSError."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def limit_bounding_set(capabilities: int) -> None:
    """Drop all but these from what this process, and what comes of it, can ever gain by exec."""
    try:
        for capability in list_bits(ALL_CAPABILITIES & ~capabilities):
            prctl(PR_CAPBSET_DROP, capability)
    except OSError as error:
        if error.errno != errno.EINVAL:  # this kernel knows no more
            raise


def set_capabilities(capabilities: int, inheritable: int) -> None:
    """capset(2): permitted and effective are the same, both as masks; raises OSError."""
    sets = (capabilities, capabilities, inheritable)  # effective, permitted, inheritable
    words = [mask >> shift & 0xFFFFFFFF for shift in (0, 32) for mask in sets]
    header = struct.pack("=2I", CAPABILITY_VERSION, 0)  # 0: this process
    checked(libc.capset(header, struct.pack("=6I", *words)))


def list_bits(mask: int) -> list[int]:
    """The numbers of the bits that are set."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
