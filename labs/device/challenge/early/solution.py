#!/usr/bin/env python3
"""A server that waits for its address: program.py ADDRESS PORT NAME."""

import socket
import sys

IP_FREEBIND = 15  # <linux/in.h>; Python's socket module has no name for it


def main() -> None:
    address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    listener = socket.socket()
    listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    listener.bind((address, port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
