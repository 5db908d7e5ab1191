#!/usr/bin/env python3
"""A program of another user, which holds sockets: neighbour.py udp PORT tcp PORT ...

It forks, so that two processes hold each of them, and takes all datagrams without an answer.
"""

import os
import select
import socket
import sys


def main() -> None:
    sockets = []
    for kind, port in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        new = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        new.bind(("0.0.0.0", int(port)))
        if kind == "tcp":
            new.listen()
        new.setblocking(False)
        sockets.append(new)
    os.fork()
    while True:
        for ready in select.select(sockets, [], [])[0]:
            try:
                ready.recv(100)
            except OSError:  # the other process was faster, or it is a listener
                continue


main()
