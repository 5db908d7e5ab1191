#!/usr/bin/env python3
"""A server that waits for its address: program.py ADDRESS PORT NAME.

It is to listen on PORT of ADDRESS, which the host may not have yet, and to answer each connection
with NAME.
"""

import socket
import sys


def main() -> None:
    address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    listener = socket.socket()
    listener.bind((address, port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
