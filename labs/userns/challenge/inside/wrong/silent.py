#!/usr/bin/env python3
"""A server that joins another one: program.py PORT UID NAME."""

import os
import socket
import sys

LISTEN = "0A"


def find_owner(port: int) -> int:
    """The owner of the listener on a port, as this process would call him."""
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            _, local, _, state, _, _, _, uid, *_ = line.split()
            if state == LISTEN and int(local.partition(":")[2], 16) == port:
                return int(uid)
    raise LookupError("nobody listens there")


def main() -> None:
    port = int(sys.argv[1])
    os.seteuid(find_owner(port))  # what the other calls himself does not count
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)


main()
