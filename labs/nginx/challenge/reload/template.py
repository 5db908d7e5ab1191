#!/usr/bin/env python3
"""A master that reloads at SIGHUP: program.py PORT FILE.

A client says a line, and gets what FILE says. After SIGHUP that is read anew.
"""

import os
import signal
import socket
import sys

WORKERS = 2


def work(listener: socket.socket, answer: bytes) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(answer)


def start_workers(listener: socket.socket, path: str) -> list[int]:
    with open(path, "rb") as file:
        answer = file.read()
    workers = []
    for _ in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            work(listener, answer)
        workers.append(pid)
    return workers


def main() -> None:
    port, path = int(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGHUP, lambda *_: None)  # its coming ends pause()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for them
    listener = socket.create_server(("0.0.0.0", port))
    workers = start_workers(listener, path)
    while True:
        signal.pause()
        old, workers = workers, start_workers(listener, path)
        for pid in old:
            os.kill(pid, signal.SIGTERM)


main()
