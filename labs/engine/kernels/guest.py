"""The first program of a guest: makes the guest fit to run labs, and runs those it is asked for.

It talks with the controlling process a line of JSON a message, over a terminal in a UML guest, in
others over a device. Messages into the guest are short: a terminal's line has no more than 4,095
bytes (N_TTY_BUF_SIZE).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import struct
import sys
import tty
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.agent import encode
from labs.engine.kernels.dependencies import loading_order, read_dependencies
from labs.engine.system import MS_MOVE, checked, libc, mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.agent import Message
    from labs.engine.model import Event
    from labs.engine.runner import Scenario

MODULES_VARIABLE = "BINDLAB_MODULES"
ENTROPY_VARIABLE = "BINDLAB_ENTROPY"
ENTROPY_SIZE = 32  # bytes
RNDADDENTROPY = 0x40085203
OVERLAY = "overlay"
STAGE = "/proc"  # a folder that every root has, and that is not needed as long as there is no /proc
# What labs need, and what those need; the evidence comes through *_diag.
MODULES = ("ipv6", "veth", "bridge", "inet_diag", "tcp_diag", "udp_diag")
POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF of reboot(2)
TERMINAL = os.makedev(4, 1)  # /dev/tty1, the second console of a UML guest


class Channel:
    """Messages to and from the controlling process."""

    def __init__(self, descriptor: int) -> None:
        self._reader = os.fdopen(descriptor, "rb", closefd=False)
        self._descriptor = descriptor

    def send(self, message: Message) -> None:
        """Send a message."""
        data = encode(message) + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]

    def receive(self) -> Message | None:
        """The next message, None where there will be no more."""
        line = self._reader.readline()
        if not line:
            return None
        message: Message = json.loads(line)
        return message


# --- making the guest fit -----------------------------------------------------------------


def cover_root(modules: str) -> None:
    """Put an overlay over the machine's files: what the guest writes stays in its memory.

    The overlay becomes the root of the mount namespace, as switch_root(8) does it: in a mere
    chroot() nobody may make a user namespace (current_chrooted()). Where files cannot be read
    through one, the machine's stay the root, and the guest cannot write where they are.
    """
    load_modules(modules, [OVERLAY])
    mount(b"tmpfs", STAGE.encode(), b"tmpfs")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{STAGE}/{name}")
    data = f"lowerdir=/,upperdir={STAGE}/upper,workdir={STAGE}/work"
    try:
        mount(b"overlay", f"{STAGE}/root".encode(), b"overlay", data=data.encode())
    except OSError as error:
        if error.errno != errno.ENODEV:  # a kernel that was built without
            raise
        return
    if is_readable(f"{STAGE}/root{__file__}"):
        os.chdir(f"{STAGE}/root")
        mount(b".", b"/", None, MS_MOVE)
        os.chroot(".")


def is_readable(path: str) -> bool:
    """Whether a file can be opened: not so through an overlay over the hostfs of 5.10."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except FileNotFoundError:
        return False
    return True


def mount_system() -> None:
    """Mount what a system has beside its files: /proc, /sys, /dev and /run."""
    mount(b"proc", b"/proc", b"proc")
    mount(b"sysfs", b"/sys", b"sysfs")
    mount(b"tmpfs", b"/dev", b"tmpfs", data=b"mode=755")
    mount(b"tmpfs", b"/run", b"tmpfs", data=b"mode=755")
    before = os.umask(0)
    for name, device in (("null", (1, 3)), ("zero", (1, 5)), ("urandom", (1, 9))):
        os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(*device))
    os.umask(before)
    os.symlink("/proc/self/fd", "/dev/fd")


def add_entropy(entropy: bytes) -> None:
    """Give the random number generator its seed (random(4)).

    Nothing happens in a new guest that it could be made of; up to 5.17 os.urandom() waits for it.
    """
    data = struct.pack(f"=ii{len(entropy)}s", 8 * len(entropy), len(entropy), entropy)
    with open("/dev/urandom", "wb") as generator:
        fcntl.ioctl(generator, RNDADDENTROPY, data)


def open_terminal() -> int:
    """The second console of a UML guest, as a channel."""
    os.mknod("/dev/tty1", stat.S_IFCHR | 0o600, TERMINAL)
    descriptor = os.open("/dev/tty1", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    tty.setraw(descriptor)
    return descriptor


def load_modules(folder: str, wanted: Sequence[str]) -> None:
    """Load kernel modules and what they need; what is built in or not there is left to show."""
    if not folder:
        return
    with open(f"{folder}/modules.dep", encoding="ascii") as file:
        depends = read_dependencies(file.read())
    for path in loading_order(wanted, depends):
        load_module(f"{folder}/{path}")


def load_module(path: str) -> None:
    """finit_module(2); a module that is there already is no error."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        compressed = 0 if path.endswith(".ko") else 4  # MODULE_INIT_COMPRESSED_FILE
        checked(libc.syscall(313, descriptor, b"", compressed))
    except FileExistsError:
        pass
    finally:
        os.close(descriptor)


# --- running labs -------------------------------------------------------------------------


def serve(channel: Channel) -> None:
    """Run what is asked for until nothing more is."""
    while (request := channel.receive()) is not None:
        match request:
            case {
                "seed": None | int() as seed,
                "language": str(language),
                "deadline": float(deadline),
            }:
                channel.send(run(channel, request, seed, language, deadline))
            case {"measure": "rules", "deadline": float(deadline)}:
                channel.send(measure_rules(channel, deadline))
            case {"measure": "sequences", "deadline": float(deadline)}:
                channel.send(measure_sequences(channel, deadline))
            case _:
                raise ValueError(request)


def find_scenario(request: Message) -> Scenario:
    """The lab that is asked for, or the attempt at a challenge; raises UsageError."""
    from labs.engine.catalogue import find_lab

    match request:
        case {"lab": str(name)}:
            return find_lab(name, f"labs.{name}.lab")
        case {"challenge": str(name), "folder": str(folder)}:
            from labs.engine.attempt import Attempt
            from labs.engine.catalogue import find_challenge
            from labs.engine.submission import read_submission

            return Attempt(find_challenge(name), read_submission(Path(folder)))
    raise ValueError(request)


def run(
    channel: Channel, request: Message, seed: int | None, language: str, deadline: float
) -> Message:
    """Run one lab or check and tell its events; returns the last word on it."""
    from labs.engine.backends.namespaces.backend import open_namespaces
    from labs.engine.errors import BindlabError
    from labs.engine.layout import Layout
    from labs.engine.model import StepStarted
    from labs.engine.record import event_line
    from labs.engine.runner import run_lab

    def tell(event: Event) -> None:
        channel.send(event_line(event))
        if isinstance(event, StepStarted):
            channel.receive()  # the views may have stopped before this step

    try:
        with open_namespaces(deadline) as backend:
            status = run_lab(find_scenario(request), backend, Layout(seed), [tell], language)
    except BindlabError as error:
        return {"error": error.message, "hint": error.hint, "status": int(error.status)}
    return {"end": int(status)}


def measure_rules(channel: Channel, deadline: float) -> Message:
    """Let the rules' table be measured, and tell what was answered; returns the last word on it."""
    from labs.engine.backends.namespaces.backend import open_namespaces
    from labs.engine.errors import BindlabError, ExitStatus
    from labs.engine.verification.measuring import measure
    from labs.engine.verification.table import make_table

    try:
        with open_namespaces(deadline) as backend:
            for errnos in measure(backend, make_table()):
                channel.send({"errnos": [[*numbers] for numbers in errnos]})
    except BindlabError as error:
        return {"error": error.message, "hint": error.hint, "status": int(error.status)}
    return {"end": int(ExitStatus.PASSED)}


def measure_sequences(channel: Channel, deadline: float) -> Message:
    """Ask the kernel about the sequences that are told, until nothing more is."""
    from labs.engine.backends.namespaces.backend import open_namespaces
    from labs.engine.errors import BindlabError, ExitStatus
    from labs.engine.verification.kept import decode_cell
    from labs.engine.verification.witness import Witness

    cells = []
    try:
        with open_namespaces(deadline) as backend:
            witness = Witness(backend)
            channel.send({"errnos": []})
            while (message := channel.receive()) is not None:
                match message:
                    case {"sequences": list(sequences)}:
                        cells += [decode_cell(sequence) for sequence in sequences]
                        channel.send({"errnos": []})
                    case {"ask": True}:
                        for some in witness.ask_all(cells):
                            channel.send({"errnos": [[*numbers] for numbers in some]})
                        cells = []
    except BindlabError as error:
        return {"error": error.message, "hint": error.hint, "status": int(error.status)}
    return {"end": int(ExitStatus.PASSED)}


def main(device: str) -> None:
    """What the guest does from its first program on; its channel is a device, or the terminal."""
    modules = os.environ.get(MODULES_VARIABLE, "")
    # A device is there before the guest has a /dev of its own.
    port = os.open(device, os.O_RDWR | os.O_CLOEXEC) if device else None
    cover_root(modules)
    mount_system()
    if entropy := os.environ.get(ENTROPY_VARIABLE):
        add_entropy(bytes.fromhex(entropy))
    channel = Channel(open_terminal() if port is None else port)
    load_modules(modules, MODULES)
    channel.send({"ready": os.uname().release})
    serve(channel)
    libc.reboot(POWER_OFF)


if __name__ == "__main__":
    # UML adds words of its own.
    main(next((word for word in sys.argv[1:] if word.startswith("/dev/")), ""))
