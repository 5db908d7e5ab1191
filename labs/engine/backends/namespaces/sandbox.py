"""The sandbox of a host: where strange programs run, which nobody here has written or read.

A process outside of it starts them, keeps what they write and knows how they ended. Inside, they
have the host's network and nothing else of it: a pid, mount and IPC namespace of their own, a root
folder with the machine's programs and libraries, and limits. No other process of the run can be
seen from inside, and so none be signalled, traced or told anything but over the network.

Standard library only, like the agent that it is.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import os
import resource
import signal
import stat
import sys
import time

from labs.engine.agent import Agent
from labs.engine.spawned import SIGNALS, find_program, make_environment
from labs.engine.system import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    keep_only,
    limit_bounding_set,
    mount,
    prctl,
    set_capabilities,
    take_user,
    unshare,
)
from labs.engine.worker import count_sleeps, read_tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

    from labs.engine.agent import Json, Stream
    from labs.engine.worker import Tally

ROOT = "/tmp"  # where its root folder is put together: an empty file system on every host
WORK = "/work"  # the program, and what belongs to it
# What programs of any language are made of; no home folder, no service's files, no secret.
FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix")
SETTINGS = (
    *("alternatives", "group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime"),
    *("nsswitch.conf", "passwd", "protocols", "services"),
)
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/shm": "/tmp",
}
# Who owns what is nobody's to write: root has no capability in there that would let it.
OWNER = 65_534

# noatime, nodiratime and relatime: a user namespace may not change them either.
ATIME_FLAGS = 0x400 | 0x800 | 0x1000 | 0x200000
WATCHES = 1 << 2 | 1 << 19  # CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE: for /proc/PID/fd
MIB = 1 << 20
TMP_SIZE = WORK_SIZE = 64 * MIB
MOST_PROCESSES = 50
MOST_TASKS = 64  # of each user, threads counted as well; more than processes, so that those tell
MOST_MEMORY = 512 * MIB
MOST_SECONDS = 120
# Of each process; to all of them together the sandbox's process 1 sees.
LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_CPU: 30,  # seconds
    resource.RLIMIT_DATA: MOST_MEMORY,
    resource.RLIMIT_FSIZE: 4 * MIB,  # of each file, standard output too
    resource.RLIMIT_MEMLOCK: 0,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_NOFILE: 256,  # which bounds what can lie in sockets, too
    resource.RLIMIT_NPROC: MOST_TASKS,
}
PAGE = resource.getpagesize()
BLOCK = 512  # bytes, what st_blocks counts
LOOK_INTERVAL = 0.05  # seconds between two looks at all of them
FILES_EVERY = 10  # looks; files in memory take longer to find than processes


class Sandbox(Agent):
    """The process outside of a sandbox; the programs inside are its children."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._exceeded, self._tell_exceeded = os.pipe()

    def enter(self) -> None:
        """Make the sandbox; raises OSError."""
        unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID)
        make_root()
        failed, tell_failed = os.pipe()
        if os.fork() == 0:
            be_first(self._tell_exceeded, tell_failed)
        for descriptor in (tell_failed, self._tell_exceeded):
            os.close(descriptor)
        raise_told(failed)

    def call_write_file(self, name: str, content: str, mode: int) -> Json:
        """Add to a file of the program's folder, which is new at first (base64)."""
        path = f"{ROOT}{WORK}/{name}"
        make_folders(os.path.dirname(path))
        with open(path, "ab") as file:
            file.write(base64.b64decode(content))
        os.chmod(path, mode)
        os.chown(path, OWNER, OWNER)
        return 0

    def call_write_tmp(self, name: str, text: str) -> Json:
        """Write a file of the programs' /tmp anew; a link that a program left there is refused."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(f"{ROOT}/tmp/{name}", flags, 0o644), "w") as file:
            file.write(text)
        return 0

    def call_execve(self, program: str, arguments: list[str], uid: int, capabilities: int) -> Json:
        """Start a program of the program's folder under a uid; its pid on the host."""
        output = os.memfd_create(program)
        fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)  # several processes write to it
        failed, tell_failed = os.pipe()
        pid = os.fork()
        if pid == 0:
            become_program(program, arguments, uid, capabilities, output, tell_failed)
        os.close(tell_failed)
        try:
            raise_told(failed)
        except OSError:
            os.waitpid(pid, 0)
            os.close(output)
            raise
        self.spawned.keep(pid, output)
        return pid

    def call_read_threads(self, pid: int) -> Json:
        """What a process's threads do now."""
        return dict(look_at_threads(pid))

    def call_read_networks(self, pid: int) -> Json:
        """The network namespace of each thread of a process, by the thread's id."""
        found: dict[str, Json] = {}
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found[task] = os.stat(f"/proc/{pid}/task/{task}/ns/net").st_ino
        return found

    def call_read_exceeded(self) -> Json:
        """Which limit of all of them together was exceeded, for which all were ended; or empty."""
        os.set_blocking(self._exceeded, False)
        with contextlib.suppress(BlockingIOError):
            return os.read(self._exceeded, 100).decode()
        return ""


def look_at_threads(pid: int) -> Tally:
    """How many threads a process has, how many sleep or are stopped, how often they went to sleep.

    Of one that is gone it is nothing.
    """
    try:
        states = [stat.rpartition(") ")[2][0] for stat in read_tasks(pid, "stat")]
        sleeps = count_sleeps(pid)
    except (FileNotFoundError, ProcessLookupError):
        states, sleeps = [], 0
    asleep, stopped = states.count("S"), states.count("T")
    return {"threads": len(states), "asleep": asleep, "stopped": stopped, "sleeps": sleeps}


def make_folders(path: str) -> None:
    """Make a folder below the program's folder, and those above it."""
    if not os.path.isdir(path):
        make_folders(os.path.dirname(path))
        os.mkdir(path)
        os.chown(path, OWNER, OWNER)


def raise_told(descriptor: int) -> None:
    """The OSError whose number a child tells by a pipe; nothing where it closes it without."""
    number = os.read(descriptor, 1)
    os.close(descriptor)
    if number:
        raise OSError(number[0], os.strerror(number[0]))


# --- the root folder ----------------------------------------------------------------------


def make_root() -> None:
    """Put the root folder together, read-only but for /tmp; raises OSError."""
    mount_empty("", 1 * MIB, "mode=755")
    for folder in ("/dev", "/etc", "/proc", "/tmp", WORK):
        os.mkdir(ROOT + folder)
    mount_empty("/tmp", TMP_SIZE, "mode=1777")
    mount_empty(WORK, WORK_SIZE, f"mode=755,uid={OWNER},gid={OWNER}")
    for folder in (*FOLDERS, *list_interpreters()):
        show(folder)
    for name in SETTINGS:
        show(f"/etc/{name}")
    for name in DEVICES:
        show(f"/dev/{name}")
    for path, target in LINKS.items():
        os.symlink(target, ROOT + path)
    make_read_only(ROOT)


def mount_empty(path: str, size: int, options: str) -> None:
    """Mount an empty file system of so many bytes in the root folder; raises OSError."""
    data = f"size={size},{options}".encode()
    mount(b"tmpfs", (ROOT + path).encode(), b"tmpfs", MS_NOSUID | MS_NODEV, data)


def list_interpreters() -> Iterator[str]:
    """Where this Python is installed, if programs would find no other."""
    try:
        find_program("python3")
    except FileNotFoundError:
        yield sys.base_prefix


def show(path: str) -> None:
    """Let something of the machine be at the same place of the root folder, if it is there."""
    target = ROOT + path
    if os.path.islink(path) and path in FOLDERS:
        os.symlink(os.readlink(path), target)
        return
    if not os.path.exists(path):
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644))
    mount(path.encode(), target.encode(), None, MS_BIND | MS_REC)
    make_read_only(target)


def make_read_only(path: str) -> None:
    """Make a mount read-only, with the flags that it has; raises OSError.

    From 5.12 on all that a host sees is so already, and what is mounted below as well.
    """
    kept = os.statvfs(path).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC | ATIME_FLAGS)
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | kept
    mount(b"none", path.encode(), None, flags)


# --- process 1 ----------------------------------------------------------------------------


def be_first(exceeded: int, failed: int) -> NoReturn:
    """Be process 1 of the sandbox, whose end is that of all others in there; never returns."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        keep_only(exceeded, failed)
        ignore_signals()
        proc = f"{ROOT}/proc".encode()
        mount(b"proc", proc, b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        # A root without capabilities may set what belongs to its network namespace.
        mount(proc + b"/sys", proc + b"/sys", None, MS_BIND)
        make_read_only(f"{ROOT}/proc/sys")
        unshare(CLONE_NEWNS)  # whoever may mount in there shall not cover what it looks at
        os.chroot(ROOT)
        os.chdir("/")
        become_watcher()
        os.close(failed)
        os.write(exceeded, watch().encode())
    except OSError as error:
        os.write(failed, bytes([error.errno or errno.EIO]))
    finally:
        os._exit(1)


def ignore_signals() -> None:
    """Let no signal of a program's come: process 1 gets those that it has a handler for."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        with contextlib.suppress(OSError):  # the C library's own
            signal.signal(number, signal.SIG_IGN)


def become_watcher() -> None:
    """Keep of all capabilities those to look into processes, and let none look into this one.

    What is not dumpable may be traced, and read in /proc, by whoever has CAP_SYS_PTRACE where its
    program was executed (ptrace(2)): outside of the run's user namespace.
    """
    limit_bounding_set(0)
    set_capabilities(WATCHES, 0)
    prctl(PR_SET_DUMPABLE, 0)


def watch() -> str:
    """Look at all that runs in there, until there is too much of something: its name."""
    end = time.monotonic() + MOST_SECONDS
    files, looks = 0, 0
    while time.monotonic() < end:
        reap()
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        if len(pids) > MOST_PROCESSES:
            return "processes"
        if looks % FILES_EVERY == 0:
            files = measure_files(pids) + measure_mounts(pids) + measure_segments()
        if files + sum(map(measure_memory, pids)) > MOST_MEMORY:
            return "memory"
        looks += 1
        time.sleep(LOOK_INTERVAL)
    return "seconds"


def reap() -> None:
    """Wait for every process that was left behind and has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def measure_memory(pid: int) -> int:
    """The memory that a process has, in bytes: resident of proc_pid_statm(5); 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def measure_files(pids: Sequence[int]) -> int:
    """The bytes of files in memory that have no name, each counted once (memfd_create(2))."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):  # it was closed
                    status = os.stat(f"/proc/{pid}/fd/{name}")
                    if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                        found[status.st_dev, status.st_ino] = status.st_blocks * BLOCK
    return sum(found.values())


def measure_mounts(pids: Sequence[int]) -> int:
    """The bytes in file systems in memory that a program has mounted, each counted once."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            with open(f"/proc/{pid}/mountinfo", errors="backslashreplace") as file:
                paths = [line.split()[4] for line in file if " - tmpfs " in line]
            for path in paths:
                with contextlib.suppress(OSError):  # it was unmounted, or is covered
                    place = f"/proc/{pid}/root{path}"
                    usage = os.statvfs(place)
                    used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
                    found[os.stat(place).st_dev] = used
    return sum(found.values())


def measure_segments() -> int:
    """The bytes of System V's shared memory (proc_sysvipc(5)), attached or not."""
    with open("/proc/sysvipc/shm") as file:
        _, *segments = file
    return sum(int(line.split()[14]) for line in segments)


# --- programs -----------------------------------------------------------------------------


def become_program(
    program: str,
    arguments: Sequence[str],
    uid: int,
    capabilities: int,
    output: int,
    failed: int,
) -> NoReturn:
    """Be a program of the program's folder, under a uid and with limits; never returns."""
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDONLY)
        for descriptor, standard in ((nowhere, 0), (output, 1), (output, 2)):
            os.dup2(descriptor, standard)
        keep_only(0, 1, 2, failed)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for limit, most in LIMITS.items():
            _, highest = resource.getrlimit(limit)
            value = most if highest == resource.RLIM_INFINITY else min(most, highest)
            resource.setrlimit(limit, (value, value))
        os.umask(0o022)
        os.chroot(ROOT)
        os.chdir(WORK)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        take_user(uid, capabilities)
        path = f"{WORK}/{program}"
        os.execve(path, [path, *arguments], program_environment())
    except OSError as error:
        os.write(failed, bytes([error.errno or errno.EIO]))
    finally:
        os._exit(127)


def program_environment() -> dict[str, str]:
    """The environment of a program: what it prints is to be there when it is ended."""
    environment = make_environment()
    path = ":".join([environment["PATH"], *(f"{folder}/bin" for folder in list_interpreters())])
    more = {"PATH": path, "HOME": "/tmp", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return environment | more
