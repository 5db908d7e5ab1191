"""A client to start by hand: says who answered how many of its connections, and what of the rest.

It ends with status 1 where nobody has answered.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import itertools
import os
import signal
import socket
import struct
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

REQUEST = b"GET / HTTP/1.0\r\n\r\n"
SIGNALS = (signal.SIGINT, signal.SIGUSR1)
SOME = 100  # requests under load before it says what has come
PAUSE = 0.01  # seconds under load until one who was not answered asks again


def main() -> None:
    """Ask, and say what came of it."""
    options = read_options()
    client = Client(options)
    with contextlib.suppress(KeyboardInterrupt):
        client.run()
    say(client.describe())
    if client.held:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        ends = ", ".join(f"from port {held.getsockname()[1]}" for held in client.held[:3])
        more = ", ..." if len(client.held) > 3 else ""
        say(f"holds {len(client.held)}: {ends}{more}")
        signal.sigwait([signal.SIGINT])
        for held in client.held:
            held.close()
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
        self.order: dict[int, str] = {}  # who answered each
        self.woken: list[int] = []  # how many processes each connection woke
        self.more = threading.Condition(self.lock)
        self.durations: list[float] = []
        self.begin = time.monotonic()
        self.numbers = itertools.count() if options.load else iter(range(options.count))

    def run(self) -> None:
        """Ask with as many threads as there are to be clients."""
        if self.options.connect_first:
            self.run_in_two()
            return
        if self.options.load:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # for the threads too
        count = self.options.clients - (not self.options.load)  # this thread heeds signals, or asks
        others = [threading.Thread(target=self.work) for _ in range(count)]
        for thread in others:
            thread.daemon = True
            thread.start()
        if self.options.load:
            self.heed_signals()
        self.work()
        for thread in others:
            thread.join()

    def heed_signals(self) -> None:
        """Say what has come, at first and at each SIGUSR1; return at SIGINT."""
        self.wait_for_some()
        say(f"under load: {self.summary()}")
        while signal.sigwait(SIGNALS) == signal.SIGUSR1:
            self.wait_for_some()
            say(self.summary())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # the next one ends it
        self.wait_for_some()
        self.numbers = iter(())

    def wait_for_some(self) -> None:
        """Wait until SOME more requests are over, in whatever way."""
        with self.more:
            enough = self.over() + SOME
            self.more.wait_for(lambda: self.over() >= enough)

    def over(self) -> int:
        """How many requests are over."""
        return sum(self.answers.values()) + sum(self.failures.values())

    def run_in_two(self) -> None:
        """Connect as often as that is wanted, say so, and only then read what is answered."""
        connections = []
        for number in range(self.options.count):
            with self.counting():
                connections.append(self.connect(number))
        say(f"connected {len(connections)}")
        for connection in connections:
            with connection, self.counting():
                self.count(self.answers, self.read_answer(connection))

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count what goes wrong inside."""
        try:
            yield
        except OSError as error:
            self.count(self.failures, describe_error(error))
            time.sleep(PAUSE if self.options.load else 0)

    def count(self, counts: dict[str, int], name: str) -> None:
        """One more of this name."""
        with self.more:
            counts[name] = counts.get(name, 0) + 1
            self.more.notify_all()

    def work(self) -> None:
        """Ask until all is asked."""
        while True:
            with self.lock:
                number = next(self.numbers, None)
            if number is None:
                return
            before = fall_asleep(self.options.watch)
            begin = time.monotonic()
            with self.counting():
                self.order[number] = self.ask(number)
                self.count(self.answers, self.order[number])
                if self.options.time:
                    self.durations.append(time.monotonic() - begin)
            after = fall_asleep(self.options.watch)
            self.woken.append(sum(one != other for one, other in zip(before, after, strict=True)))

    def connect(self, number: int) -> socket.socket:
        """The next connection, on which all is said that a client says; raises OSError."""
        options = self.options
        kind = socket.SOCK_DGRAM if options.udp else socket.SOCK_STREAM
        family = socket.AF_INET6 if options.ipv6 or ":" in options.address else socket.AF_INET
        address = socket.getaddrinfo(options.address, options.port, family, kind)[0][4]
        connection = socket.socket(family, kind)
        try:
            connection.settimeout(options.timeout)
            if options.udp and family == socket.AF_INET:
                loopback = socket.inet_aton("127.0.0.1")  # where a server joins a group
                connection.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
            elif not options.udp:
                # close() ends when it is acknowledged. At once, by a RST, where the port has to be
                # free again, and under load, which would leave too much TIME_WAIT.
                linger = struct.pack("ii", 1, 0 if options.from_port or options.load else 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
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
            answer = "" if options.silent else self.read_answer(connection)
        except OSError:
            connection.close()
            raise
        if options.hold:
            self.held.append(connection)
        else:
            connection.close()
        return answer

    def read_answer(self, connection: socket.socket) -> str:
        """The last line of an answer; ConnectionResetError where there is none."""
        to_end = self.options.http or self.options.close_last
        text = b""
        while to_end or not text.endswith(b"\n"):
            data = connection.recv(4096)
            if not data:
                break
            text += data
        if not text:
            raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return text.decode(errors="replace").strip().splitlines()[-1]

    def compare(self) -> Iterator[str]:
        """Say how many were answered by another than those of a file, and keep who answered."""
        options = self.options
        order = [self.order.get(number, "nobody") for number in range(options.count)]
        if options.compare:
            with open(options.compare) as file:
                before = file.read().split()
            moved = sum(one != other for one, other in zip(before, order, strict=False))
            yield f"{moved} of {len(order)} to another than in {options.compare}"
        if options.keep:
            with open(options.keep, "w") as file:
                file.writelines(f"{name}\n" for name in order)

    def summary(self) -> str:
        """What came of a load so far, in one line."""
        with self.lock:
            lost = [f"{name} {count}" for name, count in sorted(self.failures.items())]
            text = f"answered {sum(self.answers.values())}, lost {sum(self.failures.values())}"
        return f"{text}: {', '.join(lost)}" if lost else text

    def describe(self) -> str:
        """What came of it, in one line for each outcome."""
        if self.options.load:
            return self.summary()
        lines = []
        if self.answers:
            total = sum(self.answers.values())
            shares = ", ".join(f"{name} {self.answers[name]}" for name in sorted(self.answers))
            silent = self.options.silent
            lines.append(f"connected {total}" if silent else f"answered {total}: {shares}")
        lines += [f"{name} {count}" for name, count in sorted(self.failures.items())]
        lines += self.compare()
        if self.options.watch:
            median = sorted(self.woken)[len(self.woken) // 2]
            lines.append(f"a connection woke {median} of {len(self.options.watch)} (the median)")
        if self.durations:
            took = time.monotonic() - self.begin
            slowest = sorted(self.durations)[len(self.durations) * 99 // 100] * 1000
            rate = len(self.durations) / took
            lines.append(f"{rate:.0f} a second, 99 of 100 within {slowest:.1f} ms")
        return "\n".join(lines) or "nothing asked"


def fall_asleep(pids: Sequence[str]) -> list[str]:
    """Wait until all these processes sleep; how often each has gone to sleep (proc(5))."""
    counts: list[str] = []
    while len(counts) < len(pids):
        counts = []
        for pid in pids:
            try:
                with open(f"/proc/{pid}/status") as file:
                    status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
            except OSError:
                sys.exit(f"client: There is no process {pid}.")
            if not status["State"].startswith("S"):
                time.sleep(0.0002)
                break
            counts.append(status["voluntary_ctxt_switches"])
    return counts


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
    load = f"ask until SIGINT; {SOME} requests after it, and after SIGUSR1, say what came of all"
    flag("--load", help=load)
    flag("--time", help="say how many a second, and how long 99 of 100 took at most")
    flag("--ipv6", help="the IPv6 address of this name")
    flag("--udp", help="send datagrams")
    flag("--http", help="ask as HTTP")
    add("--from-port", type=int, metavar="P", help="the first from port P, the next from P + 1")
    flag("--connect-first", help="make all connections, say so, and only then read the answers")
    add("--keep", metavar="FILE", help="write who answered each, a line for each")
    add("--compare", metavar="FILE", help="say how many were answered by another than there")
    add(
        "--watch",
        type=lambda text: text.split(","),
        default=[],
        metavar="PID,...",
        help="connect only when these processes sleep, and say how many of them it woke",
    )
    flag("--close-last", help="close when the server has")
    flag("--silent", help="connect, and wait for no answer")
    flag("--hold", help="keep the connections open until Ctrl-C")
    add("--timeout", type=float, default=5.0, metavar="S", help="seconds, 5 without it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
