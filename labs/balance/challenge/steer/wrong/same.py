#!/usr/bin/env python3
"""A server with two listeners, chosen by the kernel: program.py PORT FIRST LAST."""

import ctypes
import selectors
import socket
import struct
import sys

SO_ATTACH_REUSEPORT_CBPF = 51
LOAD_HALF, JUMP_IF_NOT_LESS, JUMP_IF_GREATER, RETURN = 0x28, 0x35, 0x25, 0x06
CLIENT_PORT = 0  # the first that a TCP header has


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    return listener


def steer(listener: socket.socket, first: int, last: int) -> None:
    program = [
        (LOAD_HALF, 0, 0, CLIENT_PORT),
        (JUMP_IF_NOT_LESS, 0, 2, first),
        (JUMP_IF_GREATER, 1, 0, last),
        (RETURN, 0, 0, 0),  # the listener that was the first
        (RETURN, 0, 0, 1),
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    sock_fprog = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sock_fprog)


def main() -> None:
    port, first, last = map(int, sys.argv[1:4])
    canary, stable = listen(port), listen(port)
    steer(canary, first, last)
    with selectors.DefaultSelector() as waiting:
        waiting.register(canary, selectors.EVENT_READ, (canary, b"canary"))
        waiting.register(stable, selectors.EVENT_READ, (stable, b"stable"))
        while True:
            for key, _ in waiting.select():
                listener, name = key.data
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(name)


main()
