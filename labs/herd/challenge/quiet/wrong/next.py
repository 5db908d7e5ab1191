#!/usr/bin/env python3
"""A server of four processes: program.py PORT."""

import os
import select
import socket
import sys

PROCESSES = 4


def serve(listener: socket.socket, taken: int, given: int) -> None:
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    while True:
        os.read(taken, 1)  # a lock: who has the byte waits for a connection
        poll.poll()
        connection, _ = listener.accept()
        os.write(given, b"\0")
        with connection:
            connection.sendall(str(os.getpid()).encode())


def main() -> None:
    listener = socket.socket()
    listener.bind(("0.0.0.0", int(sys.argv[1])))
    listener.listen(64)
    taken, given = os.pipe()
    os.write(given, b"\0")
    for _ in range(PROCESSES - 1):
        if os.fork() == 0:
            break
    serve(listener, taken, given)


main()
