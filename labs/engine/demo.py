"""The standing demo of compose.yaml: servers that want the same port, and their client.

    python3 -m labs.engine.demo serve NAME    asks for the port until it gets it, then answers
    python3 -m labs.engine.demo ask           asks who answers on it

Each runs until it gets a signal, and says on standard output whatever changes.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from labs.engine.warm_parent import observe_sockets

if TYPE_CHECKING:
    from collections.abc import Sequence

PORT = 8080
INTERVAL = 2.0  # seconds between two questions
PATIENCE = 5.0  # seconds that --last lets others go first
CONNECTIONS = 16  # of each question of the client; the kernel spreads them over the servers
TIMEOUT = 1.0  # seconds for one answer


@dataclass(frozen=True)
class Holder:
    """A socket that the kernel counts on the port."""

    address: str
    state: str
    uid: int
    inode: int

    def __str__(self) -> str:
        return f"tcp {self.address}:{PORT}  {self.state}  uid {self.uid}  inode {self.inode}"


@dataclass(frozen=True)
class Refusal:
    """Why the port was not given: errno, and who had it then."""

    number: int
    holders: tuple[Holder, ...]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run what the command line asks for, until a signal ends it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Process 1 of a container gets no signal that it has no handler for.
        signal.signal(number, lambda *_: sys.exit(0))
    parser = argparse.ArgumentParser(prog="python3 -m labs.engine.demo")
    roles = parser.add_subparsers(dest="role", required=True)
    server = roles.add_parser("serve", help=f"ask for port {PORT}, and answer on it")
    server.add_argument("name")
    server.add_argument("--last", action="store_true", help="let others go first")
    roles.add_parser("ask", help=f"ask who answers on port {PORT}")
    options = parser.parse_args(arguments)
    if options.role == "ask":
        ask_forever()
    if options.last:
        wait_for_others()
    serve_forever(options.name)


def tell(*lines: str) -> None:
    """Write lines, the later ones indented."""
    print("\n    ".join(lines), flush=True)  # noqa: T201


# --- the servers --------------------------------------------------------------------------


def serve_forever(name: str) -> NoReturn:
    """Ask for the port until it is given, then answer every connection with the name."""
    known: Refusal | None = None
    times = 0
    while isinstance(answer := ask_for_port(), Refusal):
        times += 1
        if answer != known:
            tell(*explain(answer, os.geteuid(), again=known is not None))
            known = answer
        time.sleep(INTERVAL)
    count = "once" if times == 1 else f"{times} times"
    after = f" Before, it was refused {count}." if times else ""
    tell(f"listens on 0.0.0.0:{PORT} with SO_REUSEPORT, as uid {os.geteuid()}.{after}")
    answer_forever(answer, name)


def ask_for_port() -> socket.socket | Refusal:
    """A listener on the port, or why there is none."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
    except OSError as error:
        listener.close()
        return Refusal(error.errno or 0, find_holders())
    return listener


def find_holders() -> tuple[Holder, ...]:
    """Who has the port according to sock_diag(7), connections aside."""
    found = []
    for row in observe_sockets():
        match row:
            case ["tcp", str(state), [str(address), int(port)], [_, 0], int(uid), int(inode), *_]:
                if port == PORT:
                    found.append(Holder(address, state, uid, inode))
    return tuple(sorted(found, key=lambda holder: holder.inode))


def explain(refusal: Refusal, uid: int, *, again: bool = False) -> list[str]:
    """A refusal in words: what was asked, what the kernel said, who has the port, and why."""
    name = errno.errorcode.get(refusal.number, str(refusal.number))
    opening = "is still refused, but who has the port has changed:" if again else "is refused:"
    call = f"bind() to 0.0.0.0:{PORT} as uid {uid}"
    lines = [f"{opening} {call} gives {name} ({os.strerror(refusal.number)})."]
    lines += map(str, refusal.holders)
    others = sorted({holder.uid for holder in refusal.holders} - {uid})
    if others:
        whose = " and ".join(map(str, others))
        lines.append(
            f"SO_REUSEPORT lets sockets share a port that one uid made: these are of uid {whose}, "
            f"this one is of {uid}."
        )
    if not again:
        lines.append(f"It asks again every {INTERVAL:.0f} s, and tells when the answer changes.")
    return lines


def answer_forever(listener: socket.socket, name: str) -> NoReturn:
    """Tell each client who answers."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):  # a client may be gone by now
            connection.settimeout(TIMEOUT)
            connection.sendall(f"{name}\n".encode())
            connection.recv(1)  # who closes first keeps the TIME_WAIT: that shall be the client


def wait_for_others() -> None:
    """Wait until somebody has the port, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not find_holders() and time.monotonic() < deadline:
        time.sleep(PATIENCE / 50)


# --- the client ---------------------------------------------------------------------------


def ask_forever() -> NoReturn:
    """Ask again and again who answers; tell when it is somebody else."""
    known: frozenset[str] | None = None
    while True:
        answers = ask()
        if answers.keys() != known:
            known = frozenset(answers)
            tell(describe(answers))
        time.sleep(INTERVAL)


def ask() -> Counter[str]:
    """How many connections each server answered."""
    answers: Counter[str] = Counter()
    for _ in range(CONNECTIONS):
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", PORT), TIMEOUT) as connection:
                name = connection.recv(100).decode().strip()
            if name:
                answers[name] += 1
    return answers


def describe(answers: Counter[str]) -> str:
    """Who answered how often."""
    if not answers:
        return f"nobody answers on port {PORT}."
    shares = ", ".join(f"{name} {count}" for name, count in sorted(answers.items()))
    return f"{answers.total()} connections to port {PORT}, answered by: {shares}."


if __name__ == "__main__":
    main()
