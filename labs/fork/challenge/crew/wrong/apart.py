#!/usr/bin/env python3
"""A server of four processes: program.py PORT.

They are to share one listener, and to answer each connection with the pid of who answers.
"""

import os
import socket
import sys

PROCESSES = 4


def serve(port: int) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(64)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(str(os.getpid()).encode())


def main() -> None:
    port = int(sys.argv[1])
    for _ in range(PROCESSES):
        if os.fork() == 0:
            serve(port)
    while True:
        os.wait()


main()
