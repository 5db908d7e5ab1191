#!/usr/bin/env python3
"""A server for IPv4 and IPv6: program.py PORT ADDRESS."""

import select
import socket
import sys


def main() -> None:
    port, address = int(sys.argv[1]), sys.argv[2]
    by_ipv6 = socket.socket(socket.AF_INET6)
    with open("/proc/net/if_inet6") as file:
        found = [line.split() for line in file]
    (number,) = [fields[0] for fields in found if fields[3] == "00" and fields[5] == "eth0"]
    by_ipv6.bind((socket.inet_ntop(socket.AF_INET6, bytes.fromhex(number)), port))
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
