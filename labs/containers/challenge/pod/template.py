#!/usr/bin/env python3
"""A container of a pod: program.py PORT ADMIN UID NAME.

All containers of a pod are to share PORT, one of them is to have ADMIN, and all are to be UID.
"""

from __future__ import annotations

import select
import socket
import sys

INTERVAL = 0.2  # seconds


def try_to_lead(admin: int) -> socket.socket | None:
    listener = socket.socket()
    try:
        listener.bind(("0.0.0.0", admin))  # without an option: only one can have it
    except OSError:
        listener.close()
        return None
    listener.listen()
    return listener


def main() -> None:
    port, admin, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[4].encode()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    leading = None
    while True:
        leading = leading or try_to_lead(admin)
        if select.select([listener], [], [], INTERVAL)[0]:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(name)


main()
