#!/usr/bin/env python3
"""A server in two networks: program.py PORT."""

import ctypes
import fcntl
import os
import selectors
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


def leave_network() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket() as any_socket:  # made here, and so about this network's lo
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.bind(("0.0.0.0", port))
    listener.listen()
    return listener


def main() -> None:
    port = int(sys.argv[1])
    outside = listen(port)
    with open("/proc/self/ns/net") as home:
        leave_network()
        inside = listen(port)
        library = ctypes.CDLL(None)
        library.setns(home.fileno(), CLONE_NEWNET)  # and back
    with selectors.DefaultSelector() as waiting:
        waiting.register(outside, selectors.EVENT_READ, (outside, b"outside"))
        waiting.register(inside, selectors.EVENT_READ, (inside, b"inside"))
        while True:
            for key, _ in waiting.select():
                listener, answer = key.data
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(answer)


main()
