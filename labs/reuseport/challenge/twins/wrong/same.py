#!/usr/bin/env python3
"""A server of which two copies run side by side: program.py PORT NAME."""

import os
import socket
import sys
import threading

MEETING = "\0twins"


def give(door: socket.socket, listener: socket.socket) -> None:
    while True:
        guest, _ = door.accept()
        with guest:
            socket.send_fds(guest, [b"!"], [listener.fileno()])


def main() -> None:
    port, name = int(sys.argv[1]), sys.argv[2]
    with socket.socket(socket.AF_UNIX) as other:
        if other.connect_ex(MEETING) == 0:
            _, descriptors, _, _ = socket.recv_fds(other, 1, 1)
            listener = socket.socket(fileno=os.dup(descriptors[0]))
        else:
            listener = socket.create_server(("0.0.0.0", port))
    door = socket.socket(socket.AF_UNIX)
    if door.connect_ex(MEETING) != 0:
        door = socket.socket(socket.AF_UNIX)
        door.bind(MEETING)
        door.listen()
        threading.Thread(target=give, args=(door, listener), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
