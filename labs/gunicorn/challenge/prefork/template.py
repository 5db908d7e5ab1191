#!/usr/bin/env python3
"""An arbiter and its workers: program.py PORT WORKERS NAME.

A client says a line, and gets NAME. SIGTTIN is for one worker more, SIGTTOU for one fewer.
"""

import os
import signal
import socket
import sys


def work(port: int, name: str) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    listener = socket.create_server(("0.0.0.0", port), reuse_port=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(name.encode())


def start_worker(port: int, name: str) -> int:
    pid = os.fork()
    if pid == 0:
        work(port, name)
    return pid


def main() -> None:
    port, count, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    signals = [signal.SIGTTIN, signal.SIGTTOU]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    workers = [start_worker(port, name) for _ in range(count)]
    while True:
        if signal.sigwait(signals) == signal.SIGTTIN:
            workers.append(start_worker(port, name))
        else:
            os.kill(workers[-1], signal.SIGTERM)
            os.waitpid(workers.pop(), 0)


main()
