#!/usr/bin/env python3
"""A server that ends at SIGTERM: program.py PORT NAME."""

import select
import signal
import socket
import sys


def serve(connection: socket.socket, name: str) -> None:
    with connection:
        connection.recv(100)
        connection.sendall(name.encode())


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    stopped, stop = socket.socketpair()
    signal.signal(signal.SIGTERM, lambda *_: stop.send(b"\n"))
    listener = socket.create_server(("0.0.0.0", port))
    listener.setblocking(False)
    while True:
        ready, _, _ = select.select([listener, stopped], [], [])
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # nobody waits
            if stopped in ready:
                sys.exit(128 + signal.SIGTERM)
        else:
            serve(connection, name)


main()
