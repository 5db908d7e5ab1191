#!/usr/bin/env python3
"""A server without a network, and who brings it a listener: program.py serve|give PORT NAME."""

import ctypes
import os
import socket
import sys

CLONE_NEWNET = 0x40000000
DOOR = "/tmp/door"


def leave_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def serve(name: str) -> None:
    door = socket.socket(socket.AF_UNIX)
    os.umask(0)  # Carol is to connect, which takes the right to write
    door.bind(DOOR)
    door.listen()
    leave_network()
    giver, _ = door.accept()
    port = int(giver.recv(100))
    listener = socket.create_server(("0.0.0.0", port))
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


def give(port: int) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(DOOR)
        door.sendall(str(port).encode())


def main() -> None:
    role, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if role == "serve":
        serve(name)
    else:
        give(port)


main()
