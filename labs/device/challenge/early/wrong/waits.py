#!/usr/bin/env python3
"""A server that waits for its address: program.py ADDRESS PORT NAME."""

import socket
import sys
import time


def main() -> None:
    address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    listener = socket.socket()
    while True:
        try:
            listener.bind((address, port))
            break
        except OSError:
            time.sleep(0.1)  # the address will come
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
