#!/usr/bin/env python3
"""Several servers on one port: program.py PORT COUNT NAME."""

import os
import socket
import sys


def serve(listener: socket.socket, name: str) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


def main() -> None:
    port, count, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listener = socket.create_server(("0.0.0.0", port))
    for _ in range(count):
        if os.fork() == 0:
            serve(listener, name)
    for _ in range(count):
        os.wait()


main()
