#!/usr/bin/env python3
"""A server with two listeners: program.py PORT FIRST LAST."""

import selectors
import socket
import sys


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    return listener


def main() -> None:
    port, first, last = map(int, sys.argv[1:4])
    canary, stable = listen(port), listen(port)
    with selectors.DefaultSelector() as waiting:
        waiting.register(canary, selectors.EVENT_READ, canary)
        waiting.register(stable, selectors.EVENT_READ, stable)
        while True:
            for key, _ in waiting.select():
                connection, (_, client) = key.data.accept()
                with connection:
                    connection.sendall(b"canary" if first <= client <= last else b"stable")


main()
