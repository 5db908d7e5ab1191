#!/usr/bin/env python3
"""A server of one process: program.py PORT."""

import os
import socket
import sys


def serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(str(os.getpid()).encode())


def main() -> None:
    listener = socket.socket()
    listener.bind(("0.0.0.0", int(sys.argv[1])))
    listener.listen(64)
    serve(listener)


main()
