#!/usr/bin/env python3
"""A server of four processes: program.py PORT."""

import os
import select
import socket
import sys

PROCESSES = 4


def serve(listener: socket.socket) -> None:
    while True:
        select.select([listener], [], [])
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue
        with connection:
            connection.sendall(str(os.getpid()).encode())


def main() -> None:
    listener = socket.socket()
    listener.bind(("0.0.0.0", int(sys.argv[1])))
    listener.listen(64)
    listener.setblocking(False)
    for _ in range(PROCESSES - 1):
        if os.fork() == 0:
            break
    serve(listener)


main()
