#!/usr/bin/env python3
"""A server that can be started again at once: program.py PORT NAME.

It is to answer each connection with NAME, and close it. Where another server has PORT it ends.
"""

import socket
import sys


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    listener = socket.socket()
    listener.bind(("0.0.0.0", port))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
