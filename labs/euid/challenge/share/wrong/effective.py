#!/usr/bin/env python3
"""A server that root starts: program.py PORT UID NAME."""

import os
import socket
import sys


def main() -> None:
    port, uid, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.setgroups([])
    os.setgid(uid)
    os.setreuid(uid, 0)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
