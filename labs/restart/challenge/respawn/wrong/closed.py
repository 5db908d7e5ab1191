#!/usr/bin/env python3
"""A supervisor and its worker: program.py PORT NAME."""

import os
import socket
import sys


def serve(listener: socket.socket, name: str) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


def open_listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    return listener


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    while True:
        if os.fork() == 0:
            serve(open_listener(port), name)
        os.wait()


main()
