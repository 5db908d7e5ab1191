#!/usr/bin/env python3
"""A server that hands its listeners on: program.py PORT PORT2 NAME.

A client says a line, and gets NAME. The next process is to take over all three listeners.
"""

import select
import socket
import sys
import threading


def serve(connection: socket.socket, name: str) -> None:
    with connection:
        connection.recv(100)
        connection.sendall(name.encode())


def main() -> None:
    port, port2, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listeners = [
        socket.create_server(("0.0.0.0", port), reuse_port=True),
        socket.create_server(("0.0.0.0", port2), reuse_port=True),
        socket.create_server(("::", port), family=socket.AF_INET6, reuse_port=True),
    ]
    while True:
        ready, _, _ = select.select(listeners, [], [])
        for listener in ready:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=[connection, name]).start()


main()
