#!/usr/bin/env python3
"""A server that ends at SIGTERM: program.py PORT NAME.

A client says a line, and gets NAME. Nobody who has come before SIGTERM is to be sent away.
"""

import signal
import socket
import sys


def serve(connection: socket.socket, name: str) -> None:
    with connection:
        connection.recv(100)
        connection.sendall(name.encode())


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server(("0.0.0.0", port))
    while True:
        connection, _ = listener.accept()
        serve(connection, name)


main()
