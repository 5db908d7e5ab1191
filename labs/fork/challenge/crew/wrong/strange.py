#!/usr/bin/env python3
"""A server of four processes: program.py PORT."""

import os
import signal
import socket
import sys

PROCESSES = 4


def serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"hello")


def main() -> None:
    listener = socket.socket()
    listener.bind(("0.0.0.0", int(sys.argv[1])))
    listener.listen(64)  # before the forks: one socket for all
    for _ in range(PROCESSES):
        if os.fork() == 0:
            serve(listener)
    while True:
        signal.pause()  # who waits here holds the listener too, and takes nothing from it


main()
