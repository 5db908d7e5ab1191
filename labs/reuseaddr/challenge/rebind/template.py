#!/usr/bin/env python3
"""One of several that stand by for a port: program.py PORT CONTROL NAME.

It is to bind PORT, then listen on CONTROL. Each client there tells it to listen on PORT, and is
answered yes or no. Connections to PORT are answered with NAME.
"""

import selectors
import socket
import sys


def main() -> None:
    port, control, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listener = socket.socket()
    listener.bind(("0.0.0.0", port))
    door = socket.create_server(("0.0.0.0", control))
    selector = selectors.DefaultSelector()
    selector.register(door, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is door:
                guest, _ = door.accept()
                listener.listen()
                selector.register(listener, selectors.EVENT_READ)
                with guest:
                    guest.sendall(b"yes")
            else:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(name.encode())


main()
