#!/usr/bin/env python3
"""Workers that nobody holds up: program.py PORT WORKERS NAME."""

import os
import signal
import socket
import sys
import threading


def serve(connection: socket.socket, name: str) -> None:
    with connection:
        connection.recv(100)
        connection.sendall(name.encode())


def work(listener: socket.socket, name: str) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=[connection, name], daemon=True).start()


def main() -> None:
    port, workers, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listener = socket.create_server(("0.0.0.0", port))
    for number in range(workers):
        if os.fork() == 0:
            if number:
                signal.pause()  # a spare one
            work(listener, name)
    for _ in range(workers):
        os.wait()


main()
