#!/usr/bin/env python3
"""A server that can be started again at once: program.py PORT NAME."""

import socket
import sys
import time


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    listener = socket.socket()
    for _ in range(5):
        try:
            listener.bind(("0.0.0.0", port))
            break
        except OSError:
            time.sleep(0.2)  # the port will soon be free
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
