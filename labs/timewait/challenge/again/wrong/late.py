#!/usr/bin/env python3
"""A server that can be started again at once: program.py PORT NAME."""

import socket
import sys


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    listener = socket.socket()
    listener.bind(("0.0.0.0", port))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
