#!/usr/bin/env python3
"""A master that reloads at SIGHUP: program.py PORT FILE."""

import os
import select
import signal
import socket
import sys

WORKERS = 2


def work(listener: socket.socket, answer: bytes) -> None:
    """Serve until SIGTERM, and finish what was accepted."""
    stopped, stop = socket.socketpair()
    signal.signal(signal.SIGTERM, lambda *_: stop.send(b"\n"))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    while True:
        ready, _, _ = select.select([listener, stopped], [], [])
        if stopped in ready:
            sys.exit(0)
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # another worker was faster
            continue
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
    # Also for the workers: a SIGTERM that comes at once waits until they are ready.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for them
    listener = socket.create_server(("0.0.0.0", port))
    listener.setblocking(False)
    start_workers(listener, path)
    while True:
        signal.pause()


main()
