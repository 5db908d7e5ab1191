"""Runs the kernel's own tests, each on a network of its own, as their scripts set it up."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

from labs.engine.backends.namespaces.init import bring_up_loopback, write_sysctl
from labs.engine.kernels import guest
from labs.engine.system import CLONE_NEWNET, unshare
from tests.kernels.guests.common import be_ready, power_off

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labs.engine.agent import Message

SIOCSIFADDR = 0x8916  # of netdevice(7)
LOOPBACK, LOOPBACK_INDEX = b"lo", 1
IPV4, IPV6 = "10.8.8.8", "2001:db8:0:f101::1"  # those of bind_bhash.sh
MOST_FILES = 32768  # as many as bind_bhash.sh allows


def make_network(settings: Mapping[str, str]) -> None:
    """Be in a new network namespace with these settings (/proc/sys/net/...).

    Its loopback interface is up and has two more addresses.
    """
    unshare(CLONE_NEWNET)
    bring_up_loopback()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        address = struct.pack("=H2x4s8x", socket.AF_INET, socket.inet_aton(IPV4))
        fcntl.ioctl(four, SIOCSIFADDR, struct.pack("16s16s8x", LOOPBACK + b":1", address))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
        packed = socket.inet_pton(socket.AF_INET6, IPV6)
        fcntl.ioctl(six, SIOCSIFADDR, struct.pack("=16sIi", packed, 128, LOOPBACK_INDEX))
    for name, value in settings.items():
        write_sysctl(f"net/{name}", value)


def run(command: Sequence[str], settings: Mapping[str, str]) -> Message:
    """Run one program; its exit status and all that it wrote."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
        make_network(settings)

    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=prepare,
        check=False,
    )
    return {"status": done.returncode, "output": done.stdout.decode(errors="replace")}


def main() -> None:
    """Run what is asked for until nothing more is."""
    channel = be_ready()
    guest.add_entropy(bytes.fromhex(os.environ[guest.ENTROPY_VARIABLE]))
    guest.load_modules(os.environ[guest.MODULES_VARIABLE], guest.MODULES)
    while (request := channel.receive()) is not None:
        match request:
            case {"command": [*words], "settings": dict(settings)}:
                named = {name: str(value) for name, value in settings.items()}
                channel.send(run([str(word) for word in words], named))
            case _:
                raise ValueError(request)
    power_off()


if __name__ == "__main__":
    main()
