#!/usr/bin/env python3
"""A server that hands its listeners on: program.py PORT PORT2 NAME."""

import os
import select
import socket
import sys
import threading

DOOR = "/tmp/door"


def take(port: int, port2: int) -> list[socket.socket]:
    """The listeners of the process that runs, or new ones."""
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(DOOR)
            _, descriptors, _, _ = socket.recv_fds(door, 1, 3)
            return [socket.socket(fileno=descriptor) for descriptor in descriptors]
    except OSError:  # nobody is there
        return [
            socket.create_server(("0.0.0.0", port)),
            socket.create_server(("0.0.0.0", port2)),
        ]


def serve(connection: socket.socket, name: str) -> None:
    with connection:
        connection.recv(100)
        connection.sendall(name.encode())


def main() -> None:
    port, port2, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listeners = take(port, port2)
    if os.path.exists(DOOR):
        os.unlink(DOOR)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(DOOR)
        door.listen()
        while True:
            ready, _, _ = select.select([*listeners, door], [], [])
            if door in ready:
                heir, _ = door.accept()
                socket.send_fds(heir, [b"\n"], [listener.fileno() for listener in listeners])
                return  # the interpreter waits for the threads
            for listener in ready:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=[connection, name]).start()


main()
