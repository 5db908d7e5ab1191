#!/usr/bin/env python3
"""A supervisor and its worker: program.py PORT NAME.

Each connection gets NAME. When the worker is killed, no client is to notice.
"""

import os
import socket
import sys


def serve(port: int, name: str) -> None:
    listener = socket.create_server(("0.0.0.0", port))
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    while True:
        if os.fork() == 0:
            serve(port, name)
        os.wait()


main()
