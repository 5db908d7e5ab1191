#!/usr/bin/env python3
"""A server in two networks: program.py PORT."""

import ctypes
import os
import selectors
import socket
import sys

CLONE_NEWNET = 0x40000000


def leave_network() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.bind(("0.0.0.0", port))
    listener.listen()
    return listener


def main() -> None:
    port = int(sys.argv[1])
    outside = listen(port)
    leave_network()
    inside = listen(port)  # a new socket, for the network in which the process is now
    with selectors.DefaultSelector() as waiting:
        waiting.register(outside, selectors.EVENT_READ, (outside, b"outside"))
        waiting.register(inside, selectors.EVENT_READ, (inside, b"inside"))
        while True:
            for key, _ in waiting.select():
                listener, answer = key.data
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(answer)


main()
