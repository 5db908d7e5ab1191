"""The first program of a guest that runs the kernel's own tests, each on a network of its own."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

from labs.engine.agent import libc, unshare
from labs.engine.backends.namespaces.init import CLONE_NEWNET
from labs.engine.kernels.guest import (
    ENTROPY_VARIABLE,
    MODULES,
    MODULES_VARIABLE,
    POWER_OFF,
    Channel,
    add_entropy,
    cover_root,
    load_modules,
    mount_system,
    open_terminal,
)

if TYPE_CHECKING:
    from labs.engine.agent import Json

# netdevice(7), ipv6(7)
SIOCSIFFLAGS, SIOCSIFADDR = 0x8914, 0x8916
IFF_UP = 0x1
LOOPBACK, LOOPBACK_INDEX = b"lo", 1
IPV4, IPV6 = "10.8.8.8", "2001:db8:0:f101::1"  # those of bind_bhash.sh
MOST_FILES = 32768  # as many as bind_bhash.sh allows


def make_network() -> None:
    """Be in a new network namespace, whose loopback interface is up and has two more addresses."""
    unshare(CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        fcntl.ioctl(four, SIOCSIFFLAGS, struct.pack("16sh14x", LOOPBACK, IFF_UP))
        address = struct.pack("=H2x4s8x", socket.AF_INET, socket.inet_aton(IPV4))
        fcntl.ioctl(four, SIOCSIFADDR, struct.pack("16s16s8x", LOOPBACK + b":1", address))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
        packed = socket.inet_pton(socket.AF_INET6, IPV6)
        fcntl.ioctl(six, SIOCSIFADDR, struct.pack("=16sIi", packed, 128, LOOPBACK_INDEX))


def run(command: list[str], settings: dict[str, str], seconds: float) -> dict[str, Json]:
    """Run one program with these settings of its network; its exit status, and all it wrote."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
        make_network()
        for name, value in settings.items():
            with open(f"/proc/sys/net/{name}", "w") as file:
                file.write(value)

    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=prepare,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        output += b"\nnot over in time"
    return {"status": process.returncode, "output": output.decode(errors="replace")}


def main() -> None:
    """What the guest does from its first program on."""
    modules = os.environ.get(MODULES_VARIABLE, "")
    cover_root(modules)
    mount_system()
    add_entropy(bytes.fromhex(os.environ[ENTROPY_VARIABLE]))
    channel = Channel(open_terminal())
    load_modules(modules, MODULES)
    channel.send({"ready": os.uname().release})
    while (request := channel.receive()) is not None:
        match request:
            case {"command": [*command], "settings": dict(settings), "seconds": float(seconds)}:
                try:
                    channel.send(run([str(word) for word in command], settings, seconds))
                except Exception as e:
                    channel.send({"status": -99, "output": repr(e)})
            case _:
                raise ValueError(request)
    libc.reboot(POWER_OFF)


if __name__ == "__main__":
    main()
