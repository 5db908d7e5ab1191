"""A client to start by hand: says who answered how many of its connections, and what of the rest.

It ends with status 1 where nobody has answered.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import signal
import socket
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def main() -> None:
    """Ask, and say what came of it."""
    options = read_options()
    client = Client(options)
    with contextlib.suppress(KeyboardInterrupt):
        client.run()
    say(client.describe())
    if client.held:
        ends = ", ".join(f"from port {held.getsockname()[1]}" for held in client.held[:3])
        more = ", ..." if len(client.held) > 3 else ""
        say(f"holds {len(client.held)}: {ends}{more}")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    sys.exit(0 if client.answers else 1)


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Client:
    """Asks as often as it was told, and counts."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.answers: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.held: list[socket.socket] = []
        self.lock = threading.Lock()
        self.numbers = iter(range(options.count))

    def run(self) -> None:
        """Ask with as many threads as there are to be clients."""
        if self.options.connect_first:
            self.run_in_two()
            return
        others = [threading.Thread(target=self.work) for _ in range(1, self.options.clients)]
        for thread in others:
            thread.daemon = True
            thread.start()
        self.work()
        for thread in others:
            thread.join()

    def run_in_two(self) -> None:
        """Connect as often as that is wanted, say so, and only then read what is answered."""
        connections = []
        for number in range(self.options.count):
            with self.counting():
                connections.append(self.connect(number))
        say(f"connected {len(connections)}")
        for connection in connections:
            with connection, self.counting():
                self.count(self.answers, read_answer(connection, http=self.options.http))

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count what goes wrong inside."""
        try:
            yield
        except OSError as error:
            self.count(self.failures, describe_error(error))

    def count(self, counts: dict[str, int], name: str) -> None:
        """One more of this name."""
        with self.lock:
            counts[name] = counts.get(name, 0) + 1

    def work(self) -> None:
        """Ask until all is asked."""
        while True:
            with self.lock:
                number = next(self.numbers, None)
            if number is None:
                return
            with self.counting():
                self.count(self.answers, self.ask(number))

    def connect(self, number: int) -> socket.socket:
        """The next connection, on which all is said that a client says; raises OSError."""
        options = self.options
        kind = socket.SOCK_DGRAM if options.udp else socket.SOCK_STREAM
        family = socket.AF_INET6 if options.ipv6 or ":" in options.address else socket.AF_INET
        address = socket.getaddrinfo(options.address, options.port, family, kind)[0][4]
        connection = socket.socket(family, kind)
        try:
            connection.settimeout(options.timeout)
            if options.from_port:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                connection.bind(("", options.from_port + number))
            connection.connect(address)
            if options.udp:
                connection.send(b"hello\n")
            elif options.http:
                connection.sendall(REQUEST)
        except OSError:
            connection.close()
            raise
        return connection

    def ask(self, number: int) -> str:
        """Ask once; who answered. Raises OSError."""
        options = self.options
        connection = self.connect(number)
        try:
            answer = "" if options.silent else read_answer(connection, http=options.http)
        except OSError:
            connection.close()
            raise
        if options.hold:
            self.held.append(connection)
        else:
            connection.close()
        return answer

    def describe(self) -> str:
        """What came of it, in one line for each outcome."""
        lines = []
        if self.answers:
            total = sum(self.answers.values())
            shares = ", ".join(f"{name} {self.answers[name]}" for name in sorted(self.answers))
            silent = self.options.silent
            lines.append(f"connected {total}" if silent else f"answered {total}: {shares}")
        lines += [f"{name} {count}" for name, count in sorted(self.failures.items())]
        return "\n".join(lines) or "nothing asked"


def read_answer(connection: socket.socket, *, http: bool) -> str:
    """The last line of an answer; ConnectionResetError where there is none."""
    text = b""
    while http or not text.endswith(b"\n"):
        data = connection.recv(4096)
        if not data:
            break
        text += data
    if not text:
        raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return text.decode(errors="replace").strip().splitlines()[-1]


def describe_error(error: Any) -> str:
    """What became of a request that was not answered."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, socket.gaierror):
        return f"no such host: {error.strerror}"
    known = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset"}
    number = error.errno or 0
    name = errno.errorcode.get(number, str(number))
    return f"{known[number]}" if number in known else f"{name} ({os.strerror(number)})"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="client", description=__doc__)
    add, flag = parser.add_argument, functools.partial(parser.add_argument, action="store_true")
    add("address", help="a host's name or an address")
    add("port", type=int, nargs="?", default=8080, help="8080 without it")
    add("--count", type=int, default=1, help="how many times to ask, once without it")
    add("--clients", type=int, default=1, metavar="N", help="so many at a time")
    flag("--ipv6", help="the IPv6 address of this name")
    flag("--udp", help="send datagrams")
    flag("--http", help="ask as HTTP")
    add("--from-port", type=int, metavar="P", help="the first from port P, the next from P + 1")
    flag("--connect-first", help="make all connections, say so, and only then read the answers")
    flag("--silent", help="connect, and wait for no answer")
    flag("--hold", help="keep the connections open until Ctrl-C")
    add("--timeout", type=float, default=5.0, metavar="S", help="seconds, 5 without it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
