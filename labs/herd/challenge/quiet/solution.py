#!/usr/bin/env python3
"""A server of four processes that wakes one for each connection: program.py PORT."""

import os
import select
import socket
import sys

PROCESSES = 4


def serve(listener: socket.socket) -> None:
    poll = select.epoll()  # of its own: made after the fork
    poll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    while True:
        poll.poll()
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
