"""Process 1 of a run: makes hosts. Its end is the end of every process of the run.

It runs in an interpreter of its own with the standard library alone, so that what it forks is
small and quickly forked. It has all capabilities of the run's user namespace and none outside.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
from functools import partial

from labs.engine.agent import (
    Stream,
    answer_to,
    move_channel,
    take_steps,
)
from labs.engine.backends.namespaces.sandbox import Sandbox
from labs.engine.system import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    PR_SET_PDEATHSIG,
    checked,
    libc,
    mount,
    prctl,
    setns,
    stay_readable,
    take_ids,
    unshare,
)
from labs.engine.warm_parent import WarmParent, reap_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from labs.engine.agent import Message

HOST_NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
AT_FDCWD = -100
AT_RECURSIVE = 0x8000
MOUNT_ATTR_RDONLY = 0x1
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
IN6_ADDR_GEN_MODE_NONE = 1
SYS_MOUNT_SETATTR = 442  # the same number on every architecture (since 5.12)


def make_mount_namespace() -> None:
    """Have a mount namespace of its own, of which no other learns anything."""
    unshare(CLONE_NEWNS)
    mount(b"none", b"/", None, MS_REC | MS_PRIVATE)


def mount_proc() -> None:
    """Mount the /proc of this pid namespace."""
    mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def make_files_read_only() -> None:
    """Make every file that this mount namespace shows read-only.

    Kernels before 5.12 have no mount_setattr(2): there only the files' own permissions stand
    between a lab's users, who are nobody outside, and the machine's files.
    """
    try:
        set_mount_attributes(MOUNT_ATTR_RDONLY)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def set_mount_attributes(attributes: int) -> None:
    """Set attributes of every mount of this mount namespace (mount_setattr(2), since 5.12)."""
    argument = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    size = ctypes.sizeof(argument)
    checked(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, argument, size))


def hide_sockets() -> None:
    """Put an empty file system where the machine's services have their UNIX sockets.

    Such a socket can be connected to on a read-only file system and from any network namespace.
    """
    for folder in (b"/run", b"/tmp"):
        if os.path.isdir(folder):
            mount(b"tmpfs", folder, b"tmpfs", MS_NOSUID | MS_NODEV)


class Init:
    """Forks the first process of each host, on request."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        """Answer requests until the controlling process is gone; never returns."""
        while (request := self.stream.receive()) is not None:
            self.stream.send(answer_to(self._open_host, request))
            reap_children()
        os._exit(0)

    def _open_host(self, request: Message) -> Message:
        channel = self.stream.take_descriptor()
        unshare(CLONE_NEWPID)
        if os.fork() == 0:
            try:
                os.close(self.own_pid_namespace)
                self.stream.connection.close()
                become_host(request, Stream(move_channel(channel)))
            finally:
                os._exit(1)
        # A second unshare() is refused with EINVAL until then (copy_pid_ns()).
        setns(self.own_pid_namespace, CLONE_NEWPID)
        os.close(channel)
        return {}


def become_host(request: Message, stream: Stream) -> NoReturn:
    """Be process 1 of a new host: its namespaces, its /proc, its root user; never returns."""
    name, sysctls = str(request["host"]), request["sysctls"]
    assert isinstance(sysctls, dict)
    take_steps(
        stream,
        ("make a host's namespaces", lambda: unshare(HOST_NAMESPACES)),
        ("mount a host's /proc", mount_proc),
        ("name a host", lambda: socket.sethostname(name)),
        ("bring up a host's loopback", bring_up_loopback),
        ("set up IPv6 on a host", forgo_link_local_addresses),
        *(
            (f"set {sysctl} on a host", partial(write_sysctl, sysctl.replace(".", "/"), str(value)))
            for sysctl, value in sysctls.items()
        ),
        ("become a host's root", become_root),
    )
    WarmParent(stream, Sandbox).serve()


def bring_up_loopback() -> None:
    """Bring up lo (netdevice(7)); it has its addresses from the start."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def forgo_link_local_addresses() -> None:
    """Let no interface that comes to this network namespace make itself a link-local address.

    The multicasts of such addresses, flooded to hundreds of hosts, overflow the machine's packet
    queue (net.core.netdev_max_backlog); connections then fail for want of an ARP answer.
    """
    write_sysctl("net/ipv6/conf/default/addr_gen_mode", str(IN6_ADDR_GEN_MODE_NONE))


def write_sysctl(path: str, value: str) -> None:
    """Set a sysctl of this process's namespaces, by its path below /proc/sys; raises OSError."""
    with open(f"/proc/sys/{path}", "w") as sysctl:
        sysctl.write(f"{value}\n")


def become_root() -> None:
    """Be root in the run's user namespace, with all capabilities there."""
    take_ids(0)
    stay_readable()


def enter_user_namespace(keeper: int) -> None:
    """Join the keeper's user namespace, with all capabilities there and none to pass on."""
    descriptor = os.open(f"/proc/{keeper}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    setns(descriptor, CLONE_NEWUSER)
    os.close(descriptor)


def main(channel: int, gate: int, keeper: int) -> NoReturn:
    """What the interpreter of process 1 runs, first of all as its parent.

    All is read before the gate opens: in the user namespace the project may be out of reach.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    stream = Stream(move_channel(channel))
    if os.getppid() != keeper or not os.read(gate, 1):
        os._exit(0)
    os.close(gate)
    take_steps(
        stream,
        ("enter the run's user namespace", lambda: enter_user_namespace(keeper)),
        ("make a pid namespace", lambda: unshare(CLONE_NEWPID)),
    )
    pid = os.fork()
    if pid:
        stream.connection.close()
        os.waitpid(pid, 0)
        os._exit(0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    take_steps(
        stream,
        ("make a mount namespace", make_mount_namespace),
        ("make the machine's files read-only", make_files_read_only),
        ("hide the machine's sockets", hide_sockets),
    )
    Init(stream).serve()
