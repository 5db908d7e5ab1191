#!/usr/bin/env python3
"""A UDP server whose port somebody else has: program.py PORT NAME."""

import socket
import sys


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    server = socket.socket(type=socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))
    while True:
        _, sender = server.recvfrom(2048)
        server.sendto(name.encode(), sender)


main()
