#!/usr/bin/env python3
"""Workers that nobody holds up: program.py PORT WORKERS NAME.

WORKERS processes serve. A client says a line, soon or late, and gets NAME.
"""

import os
import socket
import sys


def work(listener: socket.socket, name: str) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(name.encode())


def main() -> None:
    port, workers, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listener = socket.create_server(("0.0.0.0", port))
    for _ in range(workers):
        if os.fork() == 0:
            work(listener, name)
    for _ in range(workers):
        os.wait()


main()
