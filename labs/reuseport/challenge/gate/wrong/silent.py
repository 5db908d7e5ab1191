#!/usr/bin/env python3
"""A server that has its port before it opens it: program.py PORT CONTROL NAME."""

import socket
import sys


def main() -> None:
    port, control, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # for this user alone
    listener.bind(("0.0.0.0", port))
    with socket.create_server(("0.0.0.0", control)) as door:
        guest, _ = door.accept()
        guest.close()
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(name.encode())


main()
