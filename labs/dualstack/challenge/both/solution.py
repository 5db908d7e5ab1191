#!/usr/bin/env python3
"""A server for IPv4 and IPv6: program.py PORT ADDRESS."""

import select
import socket
import sys


def main() -> None:
    port, address = int(sys.argv[1]), sys.argv[2]
    by_ipv6 = socket.socket(socket.AF_INET6)
    by_ipv6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    by_ipv6.bind(("::", port))
    by_ipv4 = socket.socket()
    by_ipv4.bind((address, port))
    listeners = by_ipv4, by_ipv6
    for listener in listeners:
        listener.listen()
    while True:
        for listener in select.select(listeners, [], [])[0]:
            connection, peer = listener.accept()
            with connection:
                connection.sendall(peer[0].encode())


main()
