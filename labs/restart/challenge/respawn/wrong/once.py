#!/usr/bin/env python3
"""A supervisor and its worker: program.py PORT NAME."""

import os
import signal
import socket
import sys


def serve(listener: socket.socket, name: str) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    listener = socket.create_server(("0.0.0.0", port))
    for _ in range(2):
        if os.fork() == 0:
            serve(listener, name)
        os.wait()
    while True:
        signal.pause()


main()
