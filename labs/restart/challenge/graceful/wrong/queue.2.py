#!/usr/bin/env python3
"""A server that ends at SIGTERM: program.py PORT NAME."""

import signal
import socket
import sys


def serve(connection: socket.socket, name: str) -> None:
    with connection:
        connection.recv(100)
        connection.sendall(name.encode())


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    listener = socket.create_server(("0.0.0.0", port))
    signal.signal(signal.SIGTERM, lambda *_: listener.close())
    while listener.fileno() >= 0:
        try:
            connection, _ = listener.accept()
        except OSError:  # it is closed
            return
        serve(connection, name)


main()
