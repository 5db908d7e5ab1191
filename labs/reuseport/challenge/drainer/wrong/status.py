#!/usr/bin/env python3
"""One of two servers that share a port: program.py PORT NAME."""

import contextlib
import select
import signal
import socket
import sys


def answer_all(listener: socket.socket, name: str) -> None:
    """Answer whoever waits, until nobody does."""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(name.encode())


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.set_wakeup_fd(tell.fileno())  # a signal writes a byte, and select() returns
    signal.signal(signal.SIGTERM, lambda *_: None)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    listener.setblocking(False)
    is_told = False
    while not is_told:
        ready, _, _ = select.select([listener, told], [], [])
        is_told = told in ready
        answer_all(listener, name)
    listener.close()
    sys.exit(128 + signal.SIGTERM)


main()
