#!/usr/bin/env python3
"""A server that waits for its address: program.py ADDRESS PORT NAME."""

import socket
import sys


def main() -> None:
    port, name = int(sys.argv[2]), sys.argv[3]
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
