#!/usr/bin/env python3
"""A server of four processes: program.py PORT.

For each connection only one of them shall wake, and answer it with its pid.
"""

import os
import select
import socket
import sys

PROCESSES = 4


def serve(listener: socket.socket) -> None:
    poll = select.epoll()  # of its own: made after the fork
    poll.register(listener, select.EPOLLIN)
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
