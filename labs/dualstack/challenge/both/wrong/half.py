#!/usr/bin/env python3
"""A server for IPv4 and IPv6: program.py PORT ADDRESS."""

import select
import socket
import sys


def main() -> None:
    port = int(sys.argv[1])
    by_ipv6 = socket.socket(socket.AF_INET6)
    by_ipv6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    by_ipv6.bind(("::", port))
    by_ipv6.listen()
    while True:
        for listener in select.select([by_ipv6], [], [])[0]:
            connection, peer = listener.accept()
            with connection:
                connection.sendall(peer[0].encode())


main()
