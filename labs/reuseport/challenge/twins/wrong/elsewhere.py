#!/usr/bin/env python3
"""A server of which two copies run side by side: program.py PORT NAME."""

import contextlib
import socket
import sys


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    listener = socket.socket()
    with contextlib.suppress(OSError):
        listener.bind(("0.0.0.0", port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
