#!/usr/bin/env python3
"""One of several that stand by for a port: program.py PORT CONTROL NAME."""

import selectors
import socket
import sys


def try_to_listen(listener: socket.socket) -> bool:
    """Whether nobody else listens on its port, and so it does now."""
    try:
        listener.listen()
    except OSError:  # EADDRINUSE: but the socket stays bound
        return False
    return True


def main() -> None:
    port, control, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    door = socket.create_server(("0.0.0.0", control))
    selector = selectors.DefaultSelector()
    selector.register(door, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is door:
                guest, _ = door.accept()
                listens = try_to_listen(listener)
                if listens and listener not in selector.get_map():
                    selector.register(listener, selectors.EVENT_READ)
                with guest:
                    guest.sendall(b"yes" if listens else b"no")
            else:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(name.encode())


main()
