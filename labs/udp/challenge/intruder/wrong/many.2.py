#!/usr/bin/env python3
"""A UDP server whose port somebody else has: program.py PORT NAME."""

import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator


def find_inodes(port: int) -> Iterator[str]:
    """The inodes of the UDP sockets on a port (proc_net(5))."""
    with open("/proc/net/udp") as file:
        for line in file.readlines()[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == port:
                yield fields[9]


def find_holders(inodes: set[str]) -> Iterator[int]:
    """The pids of the processes that hold one of these sockets."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for name in os.listdir("/proc"):
        folder = f"/proc/{name}/fd"
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, PermissionError):  # it ends just now
                if wanted & {os.readlink(f"{folder}/{number}") for number in os.listdir(folder)}:
                    yield int(name)


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    server = socket.socket(type=socket.SOCK_DGRAM)
    for holder in [*find_holders(set(find_inodes(port)))]:
        uid = os.stat(f"/proc/{holder}").st_uid
        for number in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if number.isdigit() and os.stat(f"/proc/{number}").st_uid == uid:
                    os.kill(int(number), signal.SIGKILL)
    while True:
        try:
            server.bind(("0.0.0.0", port))  # without any option: nobody may come after this
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        for pid in find_holders(set(find_inodes(port))):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)  # they take a moment to end
    while True:
        _, sender = server.recvfrom(2048)
        server.sendto(name.encode(), sender)


main()
