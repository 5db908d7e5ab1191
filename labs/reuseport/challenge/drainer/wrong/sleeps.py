#!/usr/bin/env python3
"""One of two servers that share a port: program.py PORT NAME."""

import contextlib
import signal
import socket
import sys

stopping = False


def leave(_signal: int, _frame: object) -> None:
    global stopping  # noqa: PLW0603
    stopping = True


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGTERM, leave)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    while not stopping:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())
    listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(name.encode())


main()
