#!/usr/bin/env python3
"""One of two servers that share a port: program.py PORT NAME.

It is to answer each connection with NAME. On SIGTERM it is to answer those who wait, and end.
"""

import signal
import socket
import sys


def leave(_signal: int, _frame: object) -> None:
    sys.exit(0)


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGTERM, leave)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
