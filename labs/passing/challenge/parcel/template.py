#!/usr/bin/env python3
"""A server without a network, and who brings it a listener: program.py serve|give PORT NAME.

serve leaves the network, and answers each connection with NAME. give opens PORT on the host.
"""

import ctypes
import socket
import sys

CLONE_NEWNET = 0x40000000


def leave_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def serve(port: int, name: str) -> None:
    leave_network()
    listener = socket.create_server(("0.0.0.0", port))
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


def give() -> None:
    """It has nothing to do, if serve has the port."""


def main() -> None:
    role, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if role == "serve":
        serve(port, name)
    else:
        give()


main()
