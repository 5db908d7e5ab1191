#!/usr/bin/env python3
"""Several servers on one port: program.py PORT COUNT NAME.

COUNT processes serve, and each connection gets NAME, even where some of them hang or die.
"""

import os
import socket
import sys


def serve(port: int, name: str) -> None:
    listener = socket.create_server(("0.0.0.0", port), reuse_port=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


def main() -> None:
    port, count, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for _ in range(count):
        if os.fork() == 0:
            serve(port, name)
    for _ in range(count):
        os.wait()


main()
