#!/usr/bin/env python3
"""A server that its next copy takes over from: program.py PORT NAME."""

import os
import select
import signal
import socket
import sys
import threading

DOOR = "/tmp/door"


def take(port: int) -> socket.socket:
    """The listener of the copy that runs, or a new one."""
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(DOOR)
            _, descriptors, _, _ = socket.recv_fds(door, 1, 1)
            return socket.socket(fileno=descriptors[0])
    except OSError:  # nobody is there
        return socket.create_server(("0.0.0.0", port))


def offer(listener: socket.socket) -> None:
    """Pass the listener to the next copy."""
    with socket.socket(socket.AF_UNIX) as door:
        if os.path.exists(DOOR):
            os.unlink(DOOR)
        door.bind(DOOR)
        door.listen()
        heir, _ = door.accept()
        socket.send_fds(heir, [b"\n"], [listener.fileno()])


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    stopped, stop = socket.socketpair()
    signal.signal(signal.SIGTERM, lambda *_: stop.send(b"\n"))
    listener = take(port)
    listener.setblocking(False)  # two copies may be woken for one client
    threading.Thread(target=offer, args=[listener], daemon=True).start()
    while True:
        ready, _, _ = select.select([listener, stopped], [], [])
        if stopped in ready:
            listener.shutdown(socket.SHUT_RDWR)
            return
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # the other copy was faster
            continue
        with connection:
            connection.recv(100)
            connection.sendall(name.encode())


main()
