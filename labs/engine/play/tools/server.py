"""A server to start by hand. It shows each system call, and what the kernel answers.

It ends with status 1 where a call is refused. `server --help` names the options. Beside it are
calls.py, which shows the calls, and unusual.py, which has what only few servers do.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import select
import signal
import socket
import struct
import sys
import time

from labs.engine.play.tools import unusual
from labs.engine.play.tools.calls import Refused, say, show, show_address, uid_of, who

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOMENTS = ("before-socket", "after-socket", "after-bind", "after-listen")
OPTIONS = ("reuseaddr", "reuseport", "no-reuseaddr", "no-reuseport")
OWN = ("listen", "shutdown", "close")
LATER = (*OWN, *OPTIONS, *unusual.ACTIONS)
PATIENCE = 2.0  # seconds that an answered client has to close first
LINGER = struct.pack("ii", 1, 1)  # close() returns when the other side has acknowledged it


def main() -> None:
    """Do what the options say, and serve."""
    options = read_options()
    try:
        Server(options).run()
    except Refused:
        sys.exit(1)
    except KeyboardInterrupt:
        os._exit(130)


class Server:
    """A socket, and what is done with it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.later: list[str] = options.later
        self.listens = False
        self.supervises = self.pauses = False
        self.held: list[socket.socket] = []
        self.lock = os.pipe() if options.wait == "lock" else None
        if self.lock:
            os.write(self.lock[1], b"\0")  # who has read this byte has the lock

    def run(self) -> None:
        """From the first call to the end of serving."""
        options = self.options
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR1, lambda _number, _frame: self.act())
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
        self.reach("before-socket")
        is_new = not (options.fd or options.receive or options.take)
        self.socket = self.make_socket() if is_new else unusual.take_over(options)
        self.number = self.socket.fileno()
        if is_new:
            self.set_options()
            self.reach("after-socket")
            address = (options.address, options.port)
            show(f"bind({self.number}, {show_address(address)})", self.socket.bind, address)
            if options.peer:
                unusual.connect(self)
            self.reach("after-bind")
            if not (options.udp or options.no_listen):
                self.listen()
        self.listens = self.listens or not (is_new or options.no_listen)
        self.reach("after-listen")
        if options.hand_to and "hand" not in self.later:
            unusual.hand(self)
        self.serve()

    def reach(self, moment: str) -> None:
        """At this moment become the user and fork, where the options say so."""
        options = self.options
        if options.fork and options.fork_at == moment:
            self.supervises = options.supervise
            for _ in range(options.fork):
                if self.fork():
                    break
            else:
                say(f"has forked {options.fork}")
        if moment == "before-socket":
            unusual.change_user(options)
        if options.user and options.drop == moment:
            uid = uid_of(options.user)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            show(f"setuid({uid})", os.setuid, uid)

    def fork(self) -> bool:
        """Fork a child; True in the child."""
        if os.fork():
            return False
        self.supervises = False
        say("forked: a child begins")
        return True

    def make_socket(self) -> socket.socket:
        """A new socket, made as the user that the options say."""
        options = self.options
        back = os.geteuid()
        if options.euid:
            uid = uid_of(options.euid)
            show(f"seteuid({uid})", os.seteuid, uid)
        if options.fsuid:
            unusual.set_fsuid(options.fsuid)
        kind = socket.SOCK_DGRAM if options.udp else socket.SOCK_STREAM
        new = socket.socket(options.family, kind)
        say(f"socket({options.family.name}, {kind.name}) = {new.fileno()}")
        if options.euid:
            show(f"seteuid({back})", os.seteuid, back)
        return new

    def set_options(self) -> None:
        """Whatever is to be set before bind()."""
        for name in ("reuseaddr", "reuseport"):
            if getattr(self.options, name):
                self.set_reuse(name, 1)
        if self.options.v6only is not None:
            self.set("IPPROTO_IPV6", "IPV6_V6ONLY", self.options.v6only)
        unusual.set_more(self)

    def set(self, level: str, name: str, value: int | bytes, number: int = 0) -> None:
        """setsockopt(2) of an option by its name."""
        option = number or getattr(socket, name)
        text = self.options.group if name == "IP_ADD_MEMBERSHIP" else value
        shown = str(text) if isinstance(text, int) else f'"{os.fsdecode(text)}"'
        what = f"setsockopt({self.number}, {level}, {name}, {shown})"
        show(what, self.socket.setsockopt, getattr(socket, level), option, value)

    def set_reuse(self, name: str, value: int) -> None:
        """SO_REUSEADDR or SO_REUSEPORT."""
        self.set("SOL_SOCKET", f"SO_{name.upper()}", value)

    def listen(self) -> None:
        """listen(2), and the program that chooses among listeners, if there is to be one."""
        backlog = self.options.backlog
        show(f"listen({self.number}, {backlog})", self.socket.listen, backlog)
        self.listens = True
        if self.options.steer:
            unusual.steer(self)

    def shutdown(self) -> None:
        """shutdown(2): listen no more, and keep the socket."""
        self.listens = False
        what = f"shutdown({self.number}, SHUT_RDWR)"
        show(what, self.socket.shutdown, socket.SHUT_RDWR)

    def close(self) -> None:
        """close(2) of the listener; what was accepted remains."""
        self.listens = False
        show(f"close({self.number})", self.socket.close)

    def act(self) -> None:
        """Do the next of what --later names; a refusal does not end the server then."""
        if self.supervises:
            self.fork()
            return
        if not self.later:
            say("nothing is left to do of --later")
            return
        action = self.later.pop(0)
        with contextlib.suppress(Refused):
            if action in OPTIONS:
                name = action.removeprefix("no-")
                self.set_reuse(name, int(action == name))
            elif action in OWN:
                getattr(self, action)()
            else:
                unusual.ACTIONS[action](self)

    # --- serving ---

    def serve(self) -> None:
        """Answer clients, or wait for SIGUSR1 while there are none to be answered."""
        options = self.options
        while True:
            if self.supervises or options.wait == "none":
                self.wait_to_act()
            elif options.udp and self.socket.fileno() >= 0:
                self.answer_datagram()
            elif self.listens:
                self.answer_connection()
            else:
                self.wait_to_act()
            if options.once and self.listens:
                return

    def wait_to_act(self) -> None:
        """Do nothing until SIGUSR1."""
        if self.pauses:
            say("accepts no more")
            self.pauses = False
        signal.sigwait([signal.SIGUSR1])
        self.act()

    def waiting(self, call: Callable[[], Any]) -> Any:
        """Make a call during which SIGUSR1 is heeded; None where it is refused."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        try:
            return call()
        except BlockingIOError:
            if not self.options.quiet:
                say(f"accept({self.number}) = -1 EAGAIN: another has it")
            return None
        except OSError as error:
            if self.listens:
                say(f"accept({self.number}) = -1 {errno.errorcode[error.errno or 0]}", refused=True)
                self.listens = False
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    def answer_connection(self) -> None:
        """Wait in the way that was asked for, accept, answer."""
        way = self.options.wait
        if self.lock:
            os.read(self.lock[0], 1)
        if way in ("epoll", "exclusive", "told", "lock"):
            self.waiting(self.poll.poll)
        if way == "told":
            say("epoll_wait() = 1, and waits for SIGUSR1")
            signal.sigwait([signal.SIGUSR1])
        accepted = self.waiting(self.socket.accept) if self.listens else None
        if self.lock:
            os.write(self.lock[1], b"\0")
        if not accepted:
            return
        connection, peer = accepted
        if not self.options.quiet:
            text = f"accept({self.number}) = {connection.fileno()}, from {show_address(peer)}"
            say(text)
        if way == "fork" and os.fork():
            connection.close()
            return
        self.answer(connection)
        if way == "fork":
            os._exit(0)

    @functools.cached_property
    def poll(self) -> select.epoll:
        """An epoll instance that this process alone has."""
        self.socket.setblocking(False)
        poll = select.epoll()
        exclusive = select.EPOLLEXCLUSIVE if self.options.wait == "exclusive" else 0
        poll.register(self.number, select.EPOLLIN | exclusive)
        return poll

    def answer(self, connection: socket.socket) -> None:
        """Tell a client who answers."""
        if self.options.mute:
            self.held.append(connection)
            return
        time.sleep(self.options.work / 1000)
        text = f"{who()}\n"
        if self.options.http:
            connection.settimeout(PATIENCE)
            with contextlib.suppress(OSError):  # what is not read would make close() a RST
                connection.recv(4096)
            head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
            text = head + text
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            connection.sendall(text.encode())
            if self.options.hold:
                self.held.append(connection)
                return
            if not self.options.close_first:
                connection.settimeout(PATIENCE)
                while connection.recv(4096):
                    pass
        connection.close()

    def answer_datagram(self) -> None:
        """Receive a datagram, and tell its sender who has it."""
        received = self.waiting(lambda: self.socket.recvfrom(4096))
        if received:
            data, peer = received
            say(f"recvfrom({self.number}) = {len(data)}, from {show_address(peer)}")
            with contextlib.suppress(OSError):
                self.socket.sendto(f"{who()}\n".encode(), peer)


# --- the command line ---------------------------------------------------------------------


def read_options() -> argparse.Namespace:
    """The command line; it ends the program where that cannot be."""
    parser = make_parser()
    options = parser.parse_args()
    options.ipv6 = options.ipv6 or ":" in (options.address or "")
    options.family = socket.AF_INET6 if options.ipv6 else socket.AF_INET
    options.address = options.address or ("::" if options.ipv6 else "0.0.0.0")
    try:
        found = socket.getaddrinfo(options.address, None, options.family, socket.SOCK_STREAM)
    except socket.gaierror:
        parser.error(f"--address {options.address}: no such host")
    options.address = found[0][4][0]
    options.later = [action for action in options.later.split(",") if action]
    for action in options.later:
        if action not in LATER:
            parser.error(f"--later {action}: there are {', '.join(LATER)}")
    if "hand" in options.later and not options.hand_to:
        parser.error("--later hand: it needs --hand-to")
    return options


def make_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="server", description=__doc__)
    add, flag = parser.add_argument, functools.partial(parser.add_argument, action="store_true")
    add("--port", type=int, default=8080, help="8080 without it")
    add("--address", help="a host's name or an address; all without it")
    flag("--ipv6", help="an IPv6 socket")
    add("--v6only", type=int, choices=(0, 1), help="IPV6_V6ONLY")
    flag("--udp", help="a UDP socket")
    flag("--reuseaddr", help="SO_REUSEADDR before bind()")
    flag("--reuseport", help="SO_REUSEPORT before bind()")
    add("--backlog", type=int, default=128, help="the length of the accept queue, 128 without it")
    flag("--no-listen", help="bind() and no more")
    add("--user", help="become this user, for good")
    add("--drop", choices=MOMENTS, default=MOMENTS[0], help="when; before-socket without it")
    add("--euid", metavar="USER", help="take this EUID for socket(), and the old one back after it")
    add("--fork", type=int, metavar="N", help="fork so many children")
    add("--fork-at", choices=MOMENTS, default=MOMENTS[3], help="when; after-listen without it")
    flag("--supervise", help="leave serving to the children; at each SIGUSR1 fork another")
    ways = ("accept", "epoll", "exclusive", "lock", "told", "fork", "none")
    told = "lock: in epoll, who has it; told: accept() at SIGUSR1; fork: a child a connection"
    add("--wait", choices=ways, default="accept", help=f"how to wait; {told}")
    add("--later", default="", metavar="A,B", help=f"at each SIGUSR1: {', '.join(LATER)}")
    add("--work", type=float, default=0, metavar="MS", help="wait so long before each answer")
    flag("--mute", help="accept, and never answer")
    flag("--hold", help="keep accepted connections open")
    flag("--close-first", help="close before the client does")
    flag("--http", help="answer as HTTP")
    flag("--once", help="end after one client")
    flag("--quiet", help="do not show accept()")
    unusual.add_options(parser)
    return parser


if __name__ == "__main__":
    main()
