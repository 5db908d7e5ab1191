"""Docker engines of a test's own, each in namespaces beside those of the machine.

What such an engine mounts, wires, starts and writes is in a mount, a network, a pid and a UTS
namespace of its own, and goes with them; of the machine it has the kernel, the programs and the
cgroups alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from docker.api import APIClient

from labs.engine.backends.docker.cleaning import find_items
from labs.engine.backends.docker.client import connected as connected_to_machines
from labs.engine.backends.docker.images import BASE
from labs.engine.backends.docker.labels import RUN
from tests.support import DEADLINE, TIMEOUT, Finished, find_children, run, wait_for_end, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START = 30.0  # seconds: for an engine to answer, or to end, which takes about one
CGROUPS = Path("/sys/fs/cgroup")

# Process 1 of an engine's namespaces: prepares them, then waits for the end of its input, which is
# the end of all that runs there. A copy of what the machine's engine has mounted would keep its
# containers' file systems and networks alive. /etc gets a layer of the engine's own, in which the
# machine's engine has no key and no options; /run holds what engines keep at fixed places there.
SETUP = r"""
set -e
folder=$1 size=$2
echo "$(basename "$folder")" >/proc/sys/kernel/hostname
awk '$5 ~ "^(/var/lib|/run|/var/run)/(docker|containerd)(/|$)" {print $5}' /proc/self/mountinfo |
    tac | while read -r place; do umount --lazy "$place" 2>&- || :; done
mount -t tmpfs -o mode=755 none /run
mkdir /run/etc /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
mkdir -p /etc/docker
mount -t tmpfs none /etc/docker
mount -t tmpfs -o "mode=755,size=$size" none "$folder/data"
ip link set lo up
echo ready
exec 3<&0
cat <&3 >/dev/null &
wait $!
"""


class NestedEngine:
    """An engine that can be started and stopped; its data last as long as its namespaces."""

    def __init__(self, folder: Path, holder: subprocess.Popen[bytes]) -> None:
        self.address = f"unix://{folder}/docker.sock"
        self.host = folder.name  # its host name
        self._folder = folder
        self._daemon: subprocess.Popen[bytes] | None = None
        self.pid = find_child(holder.pid)

    # --- the engine itself ---

    def start(self, *options: str) -> None:
        """Start it with these options of dockerd, and wait until it answers."""
        fixed = [
            *(f"--host={self.address}", f"--data-root={self._folder}/data"),
            *("--exec-root=/run/docker", "--pidfile=/run/docker.pid"),
            *(f"--cgroup-parent=/{self._folder.name}", "--exec-opt=native.cgroupdriver=cgroupfs"),
        ]
        with (self._folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*self.inside("mount", "net", "pid", "uts"), "dockerd", *fixed, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._has_come_up, "the engine answers", START)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal; by SIGKILL the containerd that belongs to it too."""
        assert self._daemon
        daemon = find_child(self._daemon.pid)
        for pid in [daemon, *find_children(daemon)] if number == signal.SIGKILL else [daemon]:
            with contextlib.suppress(ProcessLookupError):  # containerd may end with its parent
                os.kill(pid, number)
        assert wait_for_end(self._daemon, START), self._read_log()
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended, with its namespaces or by itself."""
        if self._daemon:
            self._daemon.wait()
            self._daemon = None

    def restart(self, *options: str) -> None:
        """Let it go on with other options."""
        if self._daemon:
            self.stop()
        self.start(*options)

    def _has_come_up(self) -> bool:
        assert self._daemon
        assert self._daemon.poll() is None, self._read_log()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(START)
            try:
                client.connect(self.address.removeprefix("unix://"))
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 OK" in client.recv(100)
            except (FileNotFoundError, ConnectionError):
                return False

    def _read_log(self) -> str:
        """The end of what the engine wrote."""
        return (self._folder / "log").read_text()[-4000:]

    # --- what a test does with it ---

    @contextlib.contextmanager
    def connected(self) -> Iterator[APIClient]:
        """A client of it."""
        client = APIClient(self.address, timeout=int(TIMEOUT))
        try:
            yield client
        finally:
            client.close()

    def load_image(self, name: str = BASE) -> None:
        """Copy an image from the machine's engine to this one."""
        with connected_to_machines() as machines, self.connected() as client:
            archive = machines.get_image(name)
            answers = client.load_image(archive)  # type: ignore[no-untyped-call]
            assert not [answer for answer in answers if "error" in answer]

    def run(self, *arguments: str, prefix: Sequence[str] = (), address: str = "") -> Finished:
        """Run invoke with this engine, at its usual or another address, as DOCKER_HOST says."""
        return run(*arguments, prefix=prefix, DOCKER_HOST=address or self.address)

    def inside(self, *namespaces: str) -> tuple[str, ...]:
        """The command that runs the command after it in these namespaces of the engine's."""
        return ("nsenter", f"--target={self.pid}", *(f"--{name}" for name in namespaces), "--")

    def path(self, path: str) -> Path:
        """What a path of the engine's is from here."""
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, text: str) -> str:
        """Write a file that no other sees, at this path of the engine's, which is returned."""
        self.path(path).write_text(text)
        return path

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """There is no room for its data as long as the block lasts."""
        filling = self.path(f"{self._folder}/data/filling")
        try:
            with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 16))
            yield
        finally:
            filling.unlink()

    def list_processes(self) -> set[int]:
        """The pids of all processes in its containers."""
        return {
            int(pid)
            for folder in find_cgroups(self._folder.name)
            for pid in (folder / "cgroup.procs").read_text().split()
        }

    def list_leftovers(self) -> list[str]:
        """The names of the containers, networks and volumes that carry a run's label."""
        with self.connected() as client:
            volumes = client.volumes(filters={"label": RUN})["Volumes"] or []
            return [item.name for item in find_items(client)] + [entry["Name"] for entry in volumes]


@contextlib.contextmanager
def open_engine(
    *options: str, files: Mapping[str, str] | None = None, size: str = "1g"
) -> Iterator[NestedEngine]:
    """An engine that is started with these options, with `size` of room for its data, in memory.

    It has `files` of its own, by path, in the place of the machine's. Nothing of it is left after
    the block. Where this process is killed, all ends that runs there; a folder with a log is left,
    and empty cgroups.
    """
    folder = Path(tempfile.mkdtemp(prefix="bindlab-engine-"))
    engine = None
    try:
        folder.chmod(0o755)
        (folder / "data").mkdir()
        with held_namespaces(folder, size) as holder:
            engine = NestedEngine(folder, holder)
            for path, text in (files or {}).items():
                engine.write(path, text)
            engine.start(*options)
            yield engine
    finally:
        if engine:
            engine.wait()
        shutil.rmtree(folder)
        wait_until(lambda: remove_cgroups(folder.name), f"the cgroups {folder.name} can go")


@contextlib.contextmanager
def held_namespaces(folder: Path, size: str) -> Iterator[subprocess.Popen[bytes]]:
    """The namespaces of an engine, prepared; all that runs in them ends with the block.

    The child of what this gives is process 1 there.
    """
    unshare = [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--uts",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    holder = subprocess.Popen(
        [*unshare, "sh", "-c", SETUP, "sh", str(folder), size],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin and holder.stdout
    try:
        assert holder.stdout.readline() == b"ready\n"
        yield holder
    finally:
        holder.stdin.close()
        holder.stdout.close()
        if not wait_for_end(holder, DEADLINE):
            holder.kill()
        holder.wait()


def find_child(pid: int) -> int:
    """The pid of a process's only child, as soon as it has one."""
    wait_until(lambda: bool(find_children(pid)), f"a child of {pid}")
    (child,) = find_children(pid)
    return child


def find_cgroups(name: str) -> list[Path]:
    """The cgroups of this name and those below, the lowest first, in every hierarchy."""
    tops = [*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")]
    return [Path(folder) for top in tops for folder, _, _ in os.walk(top, topdown=False)]


def remove_cgroups(name: str) -> bool:
    """Remove the cgroups of this name; False where one still has a process that is about to go."""
    try:
        for folder in find_cgroups(name):
            folder.rmdir()
    except OSError:
        return False
    return True
