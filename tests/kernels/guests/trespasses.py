"""Tries, as root of a kernel of its own, to change files of the machine and to reach a network.

It reports every attempt with the errno that it met, or "done".
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from labs.engine.kernels import guest
from labs.engine.system import mount
from tests.kernels.guests.common import power_off

if TYPE_CHECKING:
    from collections.abc import Callable


def attempt(action: Callable[[], object]) -> str:
    """What came of it."""
    try:
        action()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "done"


def write(path: str) -> None:
    """Write to a file that is there, or is not yet."""
    with open(path, "w") as file:
        file.write("trespassed\n")


def resolve() -> None:
    """Connect to an address that is not this kernel's."""
    with socket.socket() as connection:
        connection.settimeout(1)
        connection.connect(("192.0.2.1", 80))


# No overlay: here the machine's files are at hand as they are, and can be written as far as this
# kernel knows.
mount(b"machine", b"/mnt", b"hostfs")
guest.mount_system()
channel = guest.Channel(guest.open_terminal())
channel.send({"ready": os.uname().release})
request = channel.receive()
assert request
folder = "/mnt" + str(request["lab"])
outcomes = {
    "write": attempt(lambda: write(f"{folder}/there")),
    "create": attempt(lambda: write(f"{folder}/new")),
    "remove": attempt(lambda: os.unlink(f"{folder}/there")),
    "rename": attempt(lambda: os.rename(f"{folder}/there", f"{folder}/moved")),
    "link": attempt(lambda: os.link(f"{folder}/there", f"{folder}/linked")),
    "mode": attempt(lambda: os.chmod(f"{folder}/there", 0o777)),
    "owner": attempt(lambda: os.chown(f"{folder}/there", 1, 1)),
    "times": attempt(lambda: os.utime(f"{folder}/there", (1, 1))),
    "folder": attempt(lambda: os.mkdir(f"{folder}/made")),
    "truncate": attempt(lambda: os.truncate(f"{folder}/there", 0)),
    "network": attempt(resolve),
    "read": attempt(lambda: open(f"{folder}/there").close()),
}
channel.send({"error": "attempts", "hint": repr(outcomes), "status": 70})
channel.receive()
power_off()
