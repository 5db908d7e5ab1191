#!/usr/bin/env python3
"""A server of four threads: program.py PORT."""

import os
import socket
import sys
import threading

THREADS = 4


def serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(str(os.getpid()).encode())


def main() -> None:
    listener = socket.socket()
    listener.bind(("0.0.0.0", int(sys.argv[1])))
    listener.listen(64)
    for _ in range(THREADS):
        threading.Thread(target=serve, args=(listener,)).start()


main()
