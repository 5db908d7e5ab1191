#!/usr/bin/env python3
"""A server that can be started again at once: program.py PORT NAME."""

import socket
import struct
import sys


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    listener = socket.socket()
    listener.bind(("0.0.0.0", port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())
            linger = struct.pack("ii", 1, 0)  # no TIME_WAIT
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


main()
