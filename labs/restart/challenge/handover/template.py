#!/usr/bin/env python3
"""A server that its next copy takes over from: program.py PORT NAME.

A client says a line, and gets NAME. No request may be lost when one copy takes over from another.
"""

import signal
import socket
import sys


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(name.encode())


main()
