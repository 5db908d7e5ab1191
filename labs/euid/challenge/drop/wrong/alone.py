#!/usr/bin/env python3
"""A server that root starts: program.py PORT UID NAME."""

import os
import socket
import sys


def main() -> None:
    port, uid, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.seteuid(uid)  # the socket is to be the user's ...
    listener = socket.socket()
    os.seteuid(0)  # ... and the low port takes root's capability
    listener.bind(("0.0.0.0", port))
    os.setresuid(uid, uid, uid)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(name.encode())


main()
