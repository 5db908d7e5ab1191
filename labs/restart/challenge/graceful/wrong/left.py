#!/usr/bin/env python3
"""A server that ends at SIGTERM: program.py PORT NAME."""

import os
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
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pause()
    while True:
        ready, _, _ = select.select([listener, stopped], [], [])
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # nobody waits
            if stopped in ready:
                return
        else:
            serve(connection, name)


main()
