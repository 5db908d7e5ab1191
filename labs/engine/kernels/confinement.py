"""Holds a guest's machine where it can change nothing of this one, and ends it when we end.

The chain of lives: the controlling process ends, however it ends, and the kernel kills the keeper
(PR_SET_PDEATHSIG); with the keeper goes process 1 of a pid namespace, and with that every process
of the guest's machine. Their mount namespace shows all files read-only and has no device; their
network namespace has no way out.
"""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labs.engine.agent import (
    CLONE_NEWUSER,
    PR_SET_PDEATHSIG,
    Stream,
    limit_bounding_set,
    prctl,
    set_capabilities,
    take_steps,
    unshare,
)
from labs.engine.backends.namespaces.init import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWPID,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOSUID,
    make_mount_namespace,
    mount,
    set_mount_attributes,
)
from labs.engine.backends.namespaces.keeper import part_from
from labs.engine.model import capability_mask

if TYPE_CHECKING:
    import socket
    from typing import NoReturn

PR_SET_NO_NEW_PRIVS = 38
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
# What a machine writes goes here, into memory: over a folder in which nothing can be opened any
# more but what is open already.
SCRATCH = "/dev"
# Root is to read what root may read, and can do nothing else.
CAPABILITIES = capability_mask(["CAP_DAC_READ_SEARCH"])


@dataclass(frozen=True)
class Command:
    """A machine's program: its path, its arguments from number 0 on, and further variables."""

    path: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def start_confined(
    command: Command, channel: socket.socket, console: int, processor: int | None
) -> int:
    """Start a command with this channel, and `console` as standard output; its keeper's pid.

    It is pinned to a processor where one is given. The calling thread is the one whose end is the
    command's end. What cannot be done is told on the channel, as {"errno": ..., "doing": ...}.
    """
    controller = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            keep(command, channel, console, processor, controller)
        finally:
            os._exit(1)
    return pid


def keep(
    command: Command, channel: socket.socket, console: int, processor: int | None, controller: int
) -> NoReturn:
    """What the keeper does from its fork to its end; never returns."""
    descriptors = (channel.fileno(), console)
    part_from(controller, *descriptors)
    take_steps(
        Stream(channel),
        ("make a user namespace", make_user_namespace),
        ("make a mount namespace", make_mount_namespace),
        ("make the machine's files read-only", close_files),
        (
            "make the guest's namespaces",
            lambda: unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID),
        ),
        ("give up capabilities", give_up_capabilities),
    )
    pid = os.fork()
    if pid == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        be_first(command, channel, console, processor)
    end_with(pid, *descriptors)


def be_first(
    command: Command, channel: socket.socket, console: int, processor: int | None
) -> NoReturn:
    """Be process 1 of the pid namespace, whose end is that of all others; never returns."""
    pid = os.fork()
    if pid:
        end_with(pid, channel.fileno(), console)
    if processor is not None:
        os.sched_setaffinity(0, [processor])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel.set_inheritable(True)
    for standard in (1, 2):
        os.dup2(console, standard)

    def execute() -> NoReturn:
        os.execve(command.path, command.arguments, os.environ | command.environment)

    take_steps(Stream(channel), (f"start {command.path}", execute))
    os._exit(1)


def end_with(pid: int, *descriptors: int) -> NoReturn:
    """End as a child does, holding nothing that is only the child's; never returns."""
    for descriptor in descriptors:
        os.close(descriptor)
    while os.wait()[0] != pid:
        pass
    os._exit(0)


def make_user_namespace() -> None:
    """Have the right to make other namespaces, as the same user; root has it already."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return
    unshare(CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def close_files() -> None:
    """Let nothing be written but to SCRATCH, and no device be opened."""
    set_mount_attributes(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    mount(b"tmpfs", SCRATCH.encode(), b"tmpfs", MS_NOSUID | MS_NODEV)


def give_up_capabilities() -> None:
    """Keep only what reading takes, for root, and gain nothing by executing a program."""
    kept = CAPABILITIES if os.geteuid() == 0 else 0
    limit_bounding_set(kept)
    set_capabilities(kept, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
