#!/usr/bin/env python3
"""A server with two listeners: program.py PORT FIRST LAST.

Clients from ports FIRST to LAST are to come to the canary, all others to the stable one.
"""

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
    port = int(sys.argv[1])
    canary, stable = listen(port), listen(port)
    with selectors.DefaultSelector() as waiting:
        waiting.register(canary, selectors.EVENT_READ, (canary, b"canary"))
        waiting.register(stable, selectors.EVENT_READ, (stable, b"stable"))
        while True:
            for key, _ in waiting.select():
                listener, name = key.data
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(name)


main()
