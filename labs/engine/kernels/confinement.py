"""Holds a guest's machine where it can change nothing of this one, and ends it when we end.

The chain of lives: the controlling process ends, however it ends, and the kernel kills the keeper
(PR_SET_PDEATHSIG); with the keeper goes process 1 of a pid namespace, and with that every process
of the guest's machine. Their mount namespace shows all files read-only and has no device; their
network namespace has no way out. Who may have no namespaces gets the same from Landlock and
seccomp, and a keeper that ends the processes itself.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labs.engine.agent import (
    Stream,
    take_steps,
)
from labs.engine.backends.namespaces.init import (
    MOUNT_ATTR_RDONLY,
    make_mount_namespace,
    set_mount_attributes,
)
from labs.engine.backends.namespaces.keeper import part_from
from labs.engine.capabilities import capability_mask
from labs.engine.kernels.restriction import hide_extended_registers, restrict
from labs.engine.system import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_NODEV,
    MS_NOSUID,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    limit_bounding_set,
    mount,
    prctl,
    set_capabilities,
    unshare,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import NoReturn, TypeAlias

    Program: TypeAlias = "Callable[[str], Command]"
    """Makes the command of a machine that writes to this folder alone."""

MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
# What a machine writes goes here, into memory: over a folder in which nothing can be opened any
# more but what is open already.
SCRATCH = "/dev"
MEMORY = "/dev/shm"  # noqa: S108 - a folder of a random name is made there
# Root is to read what root may read, and can do nothing else.
CAPABILITIES = capability_mask(["CAP_DAC_READ_SEARCH"])


@dataclass(frozen=True)
class Command:
    """A machine's program: its path, its arguments from number 0 on, and further variables.

    Where `few_registers`, ptrace(2) shows it no registers of its processes but those of FXSAVE.
    """

    path: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    few_registers: bool = False


@dataclass(frozen=True)
class Start:
    """What is to be started, the channel and the console that it gets, and its processor."""

    program: Program
    channel: socket.socket
    console: int
    processor: int | None

    def close(self) -> None:
        """Hold nothing that is only the program's."""
        self.channel.close()
        os.close(self.console)


def start_confined(
    program: Program, channel: socket.socket, console: int, processor: int | None
) -> int:
    """Start a machine's program with this channel, and `console` as standard output.

    It is pinned to a processor where one is given. The calling thread is the one whose end is the
    program's end. Returns the pid of its keeper, which SIGTERM ends, and the program with it. What
    cannot be done is told on the channel, as {"errno": ..., "doing": ...}.
    """
    controller = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            part_from(controller, channel.fileno(), console)
            start = Start(program, channel, console, processor)
            if enter_namespaces():
                hold_in_namespaces(start)
            hold_restricted(start, controller)
        finally:
            os._exit(1)
    return pid


def enter_namespaces() -> bool:
    """Have namespaces in which nothing of the machine can be changed; False where none are had."""
    try:
        make_user_namespace()
        make_mount_namespace()
        close_files()
        unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID)
    except OSError:
        return False
    return True


def hold_in_namespaces(start: Start) -> NoReturn:
    """Have process 1 of the pid namespace start the program, and end with it; never returns."""
    take_steps(Stream(start.channel), ("give up capabilities", give_up_capabilities))
    pid = os.fork()
    if pid == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        pid = os.fork()
        if pid == 0:
            execute(start, SCRATCH)
    start.close()
    while os.wait()[0] != pid:
        pass
    os._exit(0)


def hold_restricted(start: Start, controller: int) -> NoReturn:
    """Start the program where it can change no file but in a folder of its own; never returns.

    Without a pid namespace it is this process that ends all of the program's.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != controller:
        os._exit(0)
    scratch = tempfile.mkdtemp(prefix="bindlab-", dir=MEMORY)
    pid = 0
    try:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            take_steps(
                Stream(start.channel),
                ("close the machine's files by Landlock", lambda: restrict(scratch)),
            )
            execute(start, scratch)
        start.close()
        os.waitpid(pid, 0)
    finally:
        if pid == 0:
            os._exit(1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)


def execute(start: Start, scratch: str) -> NoReturn:
    """Become the program; never returns."""
    if start.processor is not None:
        os.sched_setaffinity(0, [start.processor])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start.channel.set_inheritable(True)
    for standard in (1, 2):
        os.dup2(start.console, standard)
    command = start.program(scratch)

    def become() -> NoReturn:
        if command.few_registers:
            hide_extended_registers()
        os.execve(command.path, command.arguments, os.environ | command.environment)

    take_steps(Stream(start.channel), (f"start {command.path}", become))
    os._exit(1)


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
