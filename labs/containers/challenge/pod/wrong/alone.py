#!/usr/bin/env python3
"""A container of a pod: program.py PORT ADMIN UID NAME."""

from __future__ import annotations

import os
import select
import socket
import sys

INTERVAL = 0.2  # seconds


def become(uid: int) -> None:
    if os.geteuid() != uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def try_to_lead(admin: int) -> socket.socket | None:
    listener = socket.socket()
    try:
        listener.bind(("0.0.0.0", admin))  # without an option: only one can have it
    except OSError:
        listener.close()
        return None
    listener.listen()
    return listener


def main() -> None:
    port, admin, uid, name = *map(int, sys.argv[1:4]), sys.argv[4].encode()
    become(uid)  # before the first socket
    listener = socket.socket()
    listener.bind(("0.0.0.0", port))
    listener.listen()
    leading = None
    while True:
        leading = leading or try_to_lead(admin)
        if select.select([listener], [], [], INTERVAL)[0]:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(name)


main()
