"""Runs the real command, and looks at what it has on the machine while it lives and afterwards."""

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from labs.engine.backends.docker.labels import describe_process
from labs.engine.spawned import find_program
from labs.engine.system import checked, libc

ROOT = Path(__file__).parents[1]
INVOKE = (sys.executable, "-m", "invoke")

TOKEN = "BINDLAB_TEST_TOKEN"
TIMEOUT = 60.0  # seconds: for a command that takes less than one
DEADLINE = 10.0  # seconds: for a condition that should hold within milliseconds
INTERVAL = 0.005

NAMESPACES = ("user", "pid", "pid_for_children", "mnt", "net", "ipc", "uts")
CACHES = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"})
# What a Docker engine that runs beside the tests makes and removes.
FOREIGN_LINK = re.compile(r"docker\d+|br-[0-9a-f]{12}|veth[0-9a-f]{7}")
FOREIGN_MOUNT = re.compile(r" (/var/lib|/run)/(docker|containerd)\b")

PR_SET_NO_NEW_PRIVILEGES = 38


def need_program(name: str) -> None:
    """Skip a test where the machine has no such server; fail in CI, which has to have it."""
    try:
        find_program(name)
    except FileNotFoundError:
        if os.environ.get("CI"):
            pytest.fail(f"CI has to run this, and {name} is not installed.", pytrace=False)
        pytest.skip(f"{name} is not installed.")


# --- the command --------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """A command that is over."""

    status: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        """All that it wrote."""
        return self.output + self.errors


def environment(token: str = "", **changes: str) -> dict[str, str]:
    """The environment of a command: this one's, the token and the changes."""
    fixed = {TOKEN: token or new_token(), "LANG": "C.UTF-8", "NO_COLOR": "1"}
    return {**os.environ, **fixed, **changes}


def copy_tree(folder: Path, root: Path = ROOT) -> Path:
    """Copy what the command consists of to an empty folder."""
    shutil.copy2(root / "tasks.py", folder)
    shutil.copytree(root / "labs", folder / "labs")
    return folder


@contextlib.contextmanager
def private_copy(owner: int) -> Iterator[Path]:
    """A copy of what runs, in a folder that nobody but its owner may enter; needs root."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = copy_tree(Path(name))
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner, owner)
        yield folder


def new_token() -> str:
    """A word that no other process of the machine has in its environment."""
    return uuid.uuid4().hex


def run(
    *arguments: str,
    prefix: Sequence[str] = (),
    folder: Path = ROOT,
    stdout: int | None = subprocess.PIPE,
    seconds: float = TIMEOUT,
    **changes: str,
) -> Finished:
    """Run invoke with these arguments, started by the command `prefix`, to its end."""
    done = subprocess.run(
        [*prefix, *INVOKE, *arguments],
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=seconds,
        check=False,
    )
    return Finished(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


class Terminal:
    """A command on a terminal of its own, whose session it leads."""

    def __init__(self, arguments: Sequence[str], folder: Path, variables: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.output = ""
        self._seen = 0
        try:
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *INVOKE, *arguments],
                cwd=folder,
                env=variables,
                stdin=slave,
                stdout=slave,
                stderr=slave,
            )
        finally:
            os.close(slave)

    def read_until(self, pattern: str, seconds: float = DEADLINE) -> re.Match[str]:
        """Read on until what has come since the last match has this pattern."""
        deadline = time.monotonic() + seconds
        while not (match := re.compile(pattern).search(self.output, self._seen)):
            remaining = deadline - time.monotonic()
            assert remaining > 0, f"{pattern!r} did not come: {self.output!r}"
            assert self.read(remaining), f"ended before {pattern!r} came: {self.output!r}"
        self._seen = match.end()
        return match

    def read(self, seconds: float) -> bool:
        """Read what comes within some seconds; False once the other side is closed."""
        if select.select([self._master], [], [], max(seconds, 0))[0]:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # EIO: nobody has the slave open any more
                return False
            self.output += data.decode(errors="replace").replace("\r", "")
        return True

    def read_for(self, seconds: float) -> None:
        """Read for some seconds, or until the other side is closed."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0 and self.read(remaining):
            pass

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def wait(self) -> int:
        """Read to the end; the command's exit status."""
        self.read_for(DEADLINE)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        """Close the terminal, as a window is closed: the kernel hangs it up."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """See that a process does not outlive a test that fails."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


@contextlib.contextmanager
def open_terminal(*arguments: str, token: str, folder: Path = ROOT) -> Iterator[Terminal]:
    """Run invoke on a terminal of its own."""
    terminal = Terminal(arguments, folder, environment(token))
    with ended(terminal.process):
        try:
            yield terminal
        finally:
            terminal.close()


def find_children(pid: int) -> list[int]:
    """The pids of a process's children, whichever of its threads has forked them."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread is over
            found += [int(child) for child in children.read_text().split()]
    return found


def has_children(pid: int) -> bool:
    """Whether a process has a child."""
    return bool(find_children(pid))


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition; an AssertionError where it does not come to hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(INTERVAL)


def wait_for_end(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process ends within some seconds."""
    pidfd = os.pidfd_open(process.pid)
    try:
        return bool(select.select([pidfd], [], [], max(seconds, 0))[0])
    finally:
        os.close(pidfd)


# --- the machine --------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What a run could have on the machine, at one moment."""

    processes: frozenset[str]
    namespaces: frozenset[str]
    links: frozenset[str]
    mounts: frozenset[str]
    named_namespaces: frozenset[str]
    files: frozenset[str]

    def beyond(self, before: "Machine") -> dict[str, list[str]]:
        """What is here and was not there before, by kind; empty if nothing."""
        added = {
            field.name: sorted(getattr(self, field.name) - getattr(before, field.name))
            for field in fields(self)
        }
        return {name: values for name, values in added.items() if values}


@dataclass(frozen=True)
class Life:
    """A run, looked at while it lived: its user namespaces, and when its processes started.

    The times are in clock ticks since the boot: those of its first process and of the look.
    """

    users: frozenset[str] = frozenset()
    first: int = 0
    last: int = 0


def look(token: str, folders: Iterable[Path] = (), life: Life | None = None) -> Machine:
    """Look at the machine: the processes of a token, their namespaces, and all the rest.

    Processes that started during a run's `life` and are in a user namespace of it count as well:
    those are what has lost the token. (One that started at another time is somebody else's, who
    got an inode number that was free again.)
    """
    everybody = {pid: read_namespaces(pid) for pid in list_processes()}
    ours = find_processes(token, everybody)
    if life:
        ours |= {
            pid: namespaces
            for pid, namespaces in everybody.items()
            if namespaces & life.users and life.first <= read_start(pid) <= life.last
        }
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    named = Path("/run/netns")
    return Machine(
        processes=frozenset(f"{pid} {read_name(pid)}" for pid in ours),
        namespaces=frozenset().union(*ours.values()) - read_namespaces(os.getpid()),
        links=frozenset(
            link for link in os.listdir("/sys/class/net") if not FOREIGN_LINK.fullmatch(link)
        ),
        mounts=frozenset(mount for mount in mounts if not FOREIGN_MOUNT.search(mount)),
        named_namespaces=frozenset(os.listdir(named) if named.exists() else ()),
        files=frozenset(file for folder in folders for file in list_files(folder)),
    )


def look_at_life(token: str) -> Life:
    """Look at a run that lives."""
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    ours = find_processes(token, {pid: read_namespaces(pid) for pid in list_processes()})
    first = min((start for pid in ours if (start := read_start(pid)) >= 0), default=now)
    return Life(users_of(ours.values()), first, now)


def find_processes(
    token: str, everybody: Mapping[int, frozenset[str]]
) -> dict[int, frozenset[str]]:
    """The processes of a token and their namespaces: those that carry it in their environment, and
    those that share a user namespace of theirs.

    An ordinary user may not read the environment of a process that has taken a subordinate uid.
    """
    carriers = {pid for pid in everybody if has_token(pid, token)}
    users = users_of(everybody[pid] for pid in carriers)
    return {
        pid: namespaces
        for pid, namespaces in everybody.items()
        if pid in carriers or namespaces & users
    }


def wait_for_nothing(
    before: Machine,
    token: str,
    folders: Sequence[Path] = (),
    life: Life | None = None,
    seconds: float = DEADLINE,
) -> dict[str, list[str]]:
    """Wait until nothing of a run is left; what there is all the same, by kind."""
    deadline = time.monotonic() + seconds
    while left := look(token, folders, life).beyond(before):
        if time.monotonic() > deadline:
            return left
        time.sleep(INTERVAL)
    return {}


def list_processes() -> list[int]:
    """All pids."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def has_token(pid: int, token: str) -> bool:
    """Whether a process was started with the token in its environment, or forked by one that was.

    A zombie has no environment any more.
    """
    try:
        return f"{TOKEN}={token}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it is over, or another user's
        return False


def read_namespaces(pid: int) -> frozenset[str]:
    """A process's namespaces, each as its kind and inode; empty where they cannot be read."""
    found = set()
    for kind in NAMESPACES:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return frozenset(found)


def users_of(namespaces: Iterable[frozenset[str]]) -> frozenset[str]:
    """The user namespaces among these, but for this process's own."""
    others = frozenset().union(*namespaces) - read_namespaces(os.getpid())
    return frozenset(name for name in others if name.startswith("user:"))


def read_start(pid: int) -> int:
    """When a process started, in clock ticks since the boot; -1 where it is over.

    A zombie is over: it has given up all it had, and waits for the machine's init to read its
    status.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if stat[0] == "Z" else int(stat[19])


def read_name(pid: int) -> str:
    """A process's name."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"


def describe_ended_process() -> str:
    """A process that has ended, as labels described it while it lived."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        described = describe_process(process.pid)
        process.communicate(b"\n")
    return described


def list_files(folder: Path) -> Iterator[str]:
    """All files and folders in a folder, but for caches."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in CACHES]
        yield from (os.path.join(parent, name) for name in (*folders, *files))


# --- what a command may be denied ---------------------------------------------------------

BPF_LOAD, BPF_JUMP_EQUAL, BPF_JUMP_SET, BPF_RETURN = 0x20, 0x15, 0x45, 0x06
SECCOMP_ALLOW, SECCOMP_ERRNO = 0x7FFF0000, 0x00050000
SECCOMP_NUMBER, SECCOMP_FIRST_ARGUMENT = 0, 16  # offsets into struct seccomp_data
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
CLONE_NEWUSER = 0x10000000

# The numbers of unshare(2), and of all calls that start a process, by machine.
UNSHARE = {"x86_64": 272, "aarch64": 97}
STARTING = {"x86_64": (56, 57, 58, 435), "aarch64": (220, 435)}


def deny_user_namespaces() -> None:
    """Let unshare(CLONE_NEWUSER) fail with EPERM, as in a container without CAP_SYS_ADMIN."""
    install_filter(
        [
            (BPF_LOAD, 0, 0, SECCOMP_NUMBER),
            (BPF_JUMP_EQUAL, 0, 3, UNSHARE[os.uname().machine]),
            (BPF_LOAD, 0, 0, SECCOMP_FIRST_ARGUMENT),
            (BPF_JUMP_SET, 0, 1, CLONE_NEWUSER),
            (BPF_RETURN, 0, 0, SECCOMP_ERRNO | 1),
            (BPF_RETURN, 0, 0, SECCOMP_ALLOW),
        ]
    )


def deny_processes() -> None:
    """Let every call that starts a process or makes a namespace fail with EPERM."""
    machine = os.uname().machine
    numbers = (UNSHARE[machine], *STARTING[machine])
    install_filter(
        [
            (BPF_LOAD, 0, 0, SECCOMP_NUMBER),
            *(
                (BPF_JUMP_EQUAL, len(numbers) - index, 0, number)
                for index, number in enumerate(numbers)
            ),
            (BPF_RETURN, 0, 0, SECCOMP_ALLOW),
            (BPF_RETURN, 0, 0, SECCOMP_ERRNO | 1),
        ]
    )


def install_filter(instructions: Sequence[tuple[int, int, int, int]]) -> None:
    """seccomp(2): a filter for this process and all that come of it."""
    import ctypes
    import struct

    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, and where they are.
    program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0))


def limit_namespaces(kind: str, limit: str) -> None:
    """Set the limit of a kind of namespaces, in a user namespace that has all ids.

    Needs root.
    """
    pid = os.getpid()
    reader, writer = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(writer)
        os.read(reader, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 0 4294967295\n")
        os._exit(0)
    checked(libc.unshare(CLONE_NEWUSER))
    os.close(reader)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) == 0
    Path(f"/proc/sys/user/max_{kind}_namespaces").write_text(limit)


def denied(what: Callable[..., None], *arguments: str) -> tuple[str, ...]:
    """The command that denies something to the command that comes after it."""
    script = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r});"
        f"from tests import support; support.{what.__name__}(*{arguments!r});"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    return (sys.executable, "-c", script)
