#!/usr/bin/env python3
"""An arbiter and its workers: program.py PORT WORKERS NAME."""

import os
import select
import signal
import socket
import sys

SIGNALS = (signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD)


def work(listener: socket.socket, name: str) -> None:
    """Serve until SIGTERM, and finish what was accepted."""
    stops = []
    signal.signal(signal.SIGTERM, lambda *_: stops.append(True))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    while True:
        select.select([listener], [], [])
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # another worker was faster
            continue
        with connection:
            connection.recv(100)
            connection.sendall(name.encode())


def find_ended() -> int:
    """The pid of a child that has ended, 0 for none."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0]
    except ChildProcessError:
        return 0


def main() -> None:
    port, wanted, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    signal.pthread_sigmask(signal.SIG_BLOCK, [*SIGNALS, signal.SIGTERM])
    listener = socket.create_server(("0.0.0.0", port))
    listener.setblocking(False)
    workers: list[int] = []
    while True:
        while len(workers) < wanted:
            pid = os.fork()
            if pid == 0:
                work(listener, name)
            workers.append(pid)
        while len(workers) > wanted:
            os.kill(workers.pop(), signal.SIGTERM)  # it finishes, and nobody misses it
        number = signal.sigwait(SIGNALS)
        if number == signal.SIGTTIN:
            wanted += 1
        elif number == signal.SIGTTOU:
            wanted = max(wanted - 1, 1)
        while pid := find_ended():
            if pid in workers:
                workers.remove(pid)


main()
