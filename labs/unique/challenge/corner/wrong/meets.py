#!/usr/bin/env python3
"""A server beside Bob's: program.py PORT NAME ADDRESS."""

import selectors
import socket
import sys


def open_all(port: int, address: str) -> list[socket.socket]:
    four = socket.socket(socket.AF_INET)
    four.bind((address, port))
    six = socket.socket(socket.AF_INET6)
    six.bind(("::", port))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", port))
    for listener in (four, six):
        listener.listen()
    return [four, six, datagrams]


def serve(ready: socket.socket, name: bytes) -> None:
    if ready.type == socket.SOCK_DGRAM:
        _, client = ready.recvfrom(2000)
        ready.sendto(name, client)
        return
    connection, _ = ready.accept()
    with connection:
        connection.sendall(name)


def main() -> None:
    port, name, address = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3]
    with selectors.DefaultSelector() as waiting:
        for opened in open_all(port, address):
            waiting.register(opened, selectors.EVENT_READ, opened)
        while True:
            for key, _ in waiting.select():
                serve(key.data, name)


main()
