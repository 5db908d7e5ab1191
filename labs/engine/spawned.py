"""Programs that a process starts, as a person does at a shell: real servers and clients.

Standard library only, like the agent whose children they are.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# An ordinary user's PATH leaves out the folders of programs for root.
PROGRAM_FOLDERS = (
    *("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"),
)
ENDED = ("Z", "X")  # states: nobody has waited for it yet
ENVIRONMENT = {"PATH": ":".join(PROGRAM_FOLDERS), "LANG": "C.UTF-8", "HOME": "/"}
KEPT = ("GLIBC_TUNABLES", "OPENSSL_ia32cap")  # for a kernel that does not keep AVX's registers
MOST_OUTPUT = 1 << 16  # bytes, the last that are read
# What Python ignores, or the command that a lab is run by may.
SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Spawned:
    """The programs that one process has started, by pid: what they wrote, and how they ended."""

    def __init__(self) -> None:
        self._outputs: dict[int, int] = {}
        self._statuses: dict[int, int] = {}

    def start(self, program: str, arguments: Sequence[str]) -> int:
        """Start a program (posix_spawn(3)) and return its pid; OSError where that is refused."""
        path = find_program(program)
        # The folder that the lab was started in may be hidden from its hosts, as all below /tmp.
        os.chdir("/")
        # A file in memory: a pipe that nobody reads would in the end stop who writes to it.
        output = os.memfd_create(program)
        fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)  # several processes write to it
        try:
            pid = os.posix_spawn(
                path,
                [path, *arguments],
                make_environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsigmask=[],
                setsigdef=SIGNALS,
            )
        except OSError:
            os.close(output)
            raise
        self.keep(pid, output)
        return pid

    def keep(self, pid: int, output: int) -> None:
        """Answer for a child that was started otherwise, and for the file that it writes to."""
        self._outputs[pid] = output

    def read_output(self, pid: int) -> str:
        """The end of what a program and its children have written."""
        output = self._outputs[pid]
        size = os.fstat(output).st_size
        start = max(size - MOST_OUTPUT, 0)
        return os.pread(output, MOST_OUTPUT, start).decode(errors="replace")

    def find_status(self, pid: int) -> int | None:
        """A program's exit status, negative for a signal; None while it runs."""
        if pid not in self._statuses:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                return None
            self._statuses[pid] = os.waitstatus_to_exitcode(status)
        return self._statuses[pid]


def make_environment() -> dict[str, str]:
    """What a program has in its environment, whoever starts the lab."""
    return ENVIRONMENT | {name: os.environ[name] for name in KEPT if name in os.environ}


def list_children(parent: int) -> list[int]:
    """The pids of a process's children, in order (proc_pid_stat(5))."""
    children = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{name}/stat", errors="backslashreplace") as file:
                    state, its_parent = file.read().rpartition(") ")[2].split()[:2]
                if int(its_parent) == parent and state not in ENDED:
                    children.append(int(name))
    return sorted(children)


def find_program(name: str) -> str:
    """The path of a program; FileNotFoundError where there is none of this name."""
    for folder in PROGRAM_FOLDERS:
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def write_text(path: str, text: str) -> None:
    """Write a file anew, a configuration for example."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
