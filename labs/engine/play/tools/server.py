"""A server to start by hand. It shows each system call, and what the kernel answers.

It ends with status 1 where a call is refused. `server --help` names the options.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import errno
import functools
import os
import pwd
import select
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOMENTS = ("before-socket", "after-socket", "after-bind", "after-listen")
LATER = ("listen", "accept", "pause", "drain", "shutdown", "close", "hand", "exec", "exit")
OPTIONS = ("reuseaddr", "reuseport", "no-reuseaddr", "no-reuseport")
KEPT = ("hold", "close-first", "http", "quiet")  # what a server goes on doing after exec
SO_ATTACH_REUSEPORT_CBPF = 51
IP_FREEBIND = 15
SYS_PIDFD_GETFD = 438
PATIENCE = 0.5  # seconds that an answered client has to close first


class Refused(Exception):
    """A call that the kernel has refused, and that was shown."""


def main() -> None:
    """Do what the options say, and serve."""
    options = read_options()
    try:
        Server(options).run()
    except Refused:
        sys.exit(1)
    except KeyboardInterrupt:
        os._exit(130)


# --- system calls -------------------------------------------------------------------------


def say(text: str, *, refused: bool = False) -> None:
    """Write a line, with the user and the pid; a refusal in red on a terminal."""
    if refused and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\033[1;31m{text}\033[0m"
    with contextlib.suppress(OSError):  # the terminal may be closed
        os.write(1, f"{who()}  {text}\n".encode())


def who() -> str:
    """The effective user and the pid, such as `alice/17`."""
    return f"{name_of(os.geteuid())}/{os.getpid()}"


def name_of(uid: int) -> str:
    """A user's name, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def uid_of(user: str) -> int:
    """The uid of a name, or of a number."""
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        sys.exit(f"server: There is no user {user}.")


def show(shown: str, call: Callable[..., Any], *arguments: object) -> Any:
    """Make a call, show it as strace(1) would, return what it gives; raises Refused."""
    try:
        value = call(*arguments)
    except OSError as error:
        number = error.errno or 0
        name = errno.errorcode.get(number, str(number))
        say(f"{shown} = -1 {name} ({os.strerror(number)})", refused=True)
        raise Refused from None
    say(f"{shown} = {0 if value is None else value}")
    return value


def show_address(address: Any) -> str:
    """An address and a port, as ss(8) shows them."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def pidfd_getfd(pid: int, descriptor: int) -> int:
    """A copy of another process's descriptor (pidfd_getfd(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    copy = int(libc.syscall(SYS_PIDFD_GETFD, os.pidfd_open(pid), descriptor, 0))
    if copy < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return copy


# --- the server ---------------------------------------------------------------------------


class Server:
    """A socket, and what is done with it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.later: list[str] = options.later
        self.listens = False
        self.supervises = self.pauses = False
        self.held: list[socket.socket] = []

    def run(self) -> None:
        """From the first call to the end of serving."""
        options = self.options
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR1, lambda _number, _frame: self.act())
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
        self.reach("before-socket")
        self.socket = self.obtain()
        self.number = self.socket.fileno()
        if self.is_new:
            self.set_options()
            self.reach("after-socket")
            address = (options.address, options.port)
            show(f"bind({self.number}, {show_address(address)})", self.socket.bind, address)
            self.reach("after-bind")
            if not (options.udp or options.no_listen):
                self.listen()
        self.listens = self.listens or not (self.is_new or options.no_listen)
        self.reach("after-listen")
        if options.hand_to and "hand" not in self.later:
            self.hand()
        self.serve()

    @property
    def is_new(self) -> bool:
        """Whether the socket is one of its own, and not inherited, received or copied."""
        return not (self.options.fd or self.options.receive or self.options.take)

    def reach(self, moment: str) -> None:
        """At this moment become the user and fork, where the options say so."""
        options = self.options
        if options.fork and options.fork_at == moment:
            self.supervises = options.supervise
            children = (self.fork() for _ in range(options.fork))
            any(children)  # a child stops here to fork
        if options.no_capabilities and moment == "before-socket":
            drop_capabilities()
        if options.uids and moment == "before-socket":
            uids = [uid_of(user) for user in options.uids.split(",")]
            show(f"setresuid({', '.join(map(str, uids))})", os.setresuid, *uids)
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

    def obtain(self) -> socket.socket:
        """A new socket, or one that another process has made."""
        options = self.options
        if options.fd:
            return socket.socket(fileno=options.fd)
        if options.receive:
            return receive(options.receive)
        if options.take:
            pid, descriptor = map(int, options.take.split(","))
            shown = f"pidfd_getfd({pid}, {descriptor})"
            return socket.socket(fileno=show(shown, pidfd_getfd, pid, descriptor))
        back = os.geteuid()
        if options.euid:
            uid = uid_of(options.euid)
            show(f"seteuid({uid})", os.seteuid, uid)
        if options.fsuid:
            uid = uid_of(options.fsuid)
            ctypes.CDLL(None).setfsuid(uid)
            say(f"setfsuid({uid})")
        kind = socket.SOCK_DGRAM if options.udp else socket.SOCK_STREAM
        new = socket.socket(options.family, kind)
        say(f"socket({options.family.name}, {kind.name}) = {new.fileno()}")
        if options.euid:
            show(f"seteuid({back})", os.seteuid, back)
        return new

    def set_options(self) -> None:
        """Whatever is to be set before bind()."""
        options = self.options
        for name in ("reuseaddr", "reuseport"):
            if getattr(options, name):
                self.set_reuse(name, 1)
        if options.v6only is not None:
            self.set("IPPROTO_IPV6", "IPV6_V6ONLY", options.v6only)
        if options.freebind:
            self.set("IPPROTO_IP", "IP_FREEBIND", 1, IP_FREEBIND)
        for device in options.device:
            self.set("SOL_SOCKET", "SO_BINDTODEVICE", device.encode())
        if options.group:
            member = socket.inet_aton(options.group) + bytes(4)
            self.set("IPPROTO_IP", "IP_ADD_MEMBERSHIP", member)
        if options.chown:
            uid = uid_of(options.chown)
            show(f"fchown({self.number}, {uid})", os.fchown, self.number, uid, -1)

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
            steer(self.socket, self.options.steer)

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
            else:
                getattr(self, action)()

    def accept(self) -> None:
        """Accept on a socket that listens by somebody else's doing."""
        self.listens = True

    def pause(self) -> None:
        """Accept no more; an accept() that waits already is not undone."""
        self.listens, self.pauses = False, True

    def shutdown(self) -> None:
        """shutdown(2): listen no more, and keep the socket."""
        self.listens = False
        what = f"shutdown({self.number}, SHUT_RDWR)"
        show(what, self.socket.shutdown, socket.SHUT_RDWR)

    def close(self) -> None:
        """close(2) of the listener; what was accepted remains."""
        self.listens = False
        show(f"close({self.number})", self.socket.close)

    def drain(self) -> None:
        """Answer what waits in the queue, and close."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.answer(self.socket.accept()[0])
        self.close()

    def exec(self) -> None:
        """Become this program anew, with the socket as an inherited descriptor."""
        self.socket.set_inheritable(True)
        os.set_blocking(self.number, True)
        kept = [f"--{name}" for name in KEPT if getattr(self.options, name.replace("-", "_"))]
        way = ("--wait", self.options.wait, *kept)
        program = sys.argv[0]
        say(f'execve("{os.path.basename(program)}", --fd {self.number})')
        os.execv(program, [program, "--fd", str(self.number), *way])

    def exit(self) -> None:
        """End at once, and let the kernel close all."""
        say("exit(0)")
        os._exit(0)

    def hand(self) -> None:
        """Send the socket to whoever comes to a UNIX socket, once (SCM_RIGHTS of unix(7))."""
        path = self.options.hand_to
        with socket.socket(socket.AF_UNIX) as door, contextlib.suppress(FileNotFoundError):
            show(f'bind("{path}")', door.bind, path)
            os.chmod(path, 0o666)  # noqa: S103 - anybody may come
            show(f'listen("{path}")', door.listen)
            connection, _ = door.accept()
            with connection:
                socket.send_fds(connection, [b"\0"], [self.number])
                say(f"sendmsg(SCM_RIGHTS, [{self.number}])")
            os.unlink(path)

    # --- serving ---

    def serve(self) -> None:
        """Answer clients, or wait for SIGUSR1 while there are none to be answered."""
        options = self.options
        while True:
            if options.udp and self.number == self.socket.fileno():
                self.answer_datagram()
            elif not self.listens or self.supervises or options.wait == "none":
                if self.pauses:
                    say("accepts no more")
                    self.pauses = False
                signal.sigwait([signal.SIGUSR1])
                self.act()
            else:
                self.answer_connection()
            if options.once and self.listens:
                return

    def waiting(self, call: Callable[[], Any]) -> Any:
        """Make a call during which SIGUSR1 is heeded; None where it is refused."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        try:
            return call()
        except BlockingIOError:
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
        if way in ("epoll", "exclusive"):
            self.socket.setblocking(False)
            with select.epoll() as poll:
                exclusive = select.EPOLLEXCLUSIVE if way == "exclusive" else 0
                poll.register(self.number, select.EPOLLIN | exclusive)
                self.waiting(poll.poll)
        accepted = self.waiting(self.socket.accept) if self.listens else None
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

    def answer(self, connection: socket.socket) -> None:
        """Tell a client who answers."""
        text = f"{who()}\n"
        if self.options.mute:
            self.held.append(connection)
            return
        time.sleep(self.options.work / 1000)
        if self.options.http:
            connection.settimeout(PATIENCE)
            with contextlib.suppress(OSError):  # what is not read would make close() a RST
                connection.recv(4096)
            head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
            text = head + text
        with contextlib.suppress(OSError):
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


def receive(path: str) -> socket.socket:
    """The socket that another process hands over at a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as door:
        show(f'connect("{path}")', door.connect, path)
        _, descriptors, _, _ = socket.recv_fds(door, 1, 1)
    say(f"recvmsg(SCM_RIGHTS) = {descriptors}")
    return socket.socket(fileno=descriptors[0])


def steer(listener: socket.socket, members: int) -> None:
    """Let the client's port, modulo the members, choose the listener (classic BPF)."""
    steps = ((0x28, 0xFFF00000 + 20), (0x94, members), (0x16, 0))
    code = array.array("B", b"".join(struct.pack("HBBI", word, 0, 0, k) for word, k in steps))
    program = struct.pack("HP", len(steps), code.buffer_info()[0])
    shown = (
        f"setsockopt({listener.fileno()}, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, port % {members})"
    )
    show(shown, listener.setsockopt, socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)


def drop_capabilities() -> None:
    """Keep the user and lose every capability (capset(2))."""
    header, none = struct.pack("=2I", 0x20080522, 0), bytes(24)
    show("capset(0)", ctypes.CDLL(None, use_errno=True).capset, header, none)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="server", description=__doc__)
    add, flag = parser.add_argument, functools.partial(parser.add_argument, action="store_true")
    add("--port", type=int, default=8080, help="8080 without it")
    add("--address", help="a host's name or an address; all without it")
    flag("--ipv6", help="an IPv6 socket")
    add("--v6only", type=int, choices=(0, 1), help="IPV6_V6ONLY")
    flag("--udp", help="a UDP socket")
    add("--group", metavar="ADDRESS", help="join this multicast group")
    flag("--reuseaddr", help="SO_REUSEADDR before bind()")
    flag("--reuseport", help="SO_REUSEPORT before bind()")
    flag("--freebind", help="IP_FREEBIND")
    add("--device", action="append", default=[], help="SO_BINDTODEVICE; twice: one, then another")
    add("--backlog", type=int, default=128, help="the length of the accept queue, 128 without it")
    flag("--no-listen", help="bind() and no more")
    add("--user", help="become this user, for good")
    add("--drop", choices=MOMENTS, default=MOMENTS[0], help="when; before-socket without it")
    add("--euid", metavar="USER", help="take this EUID for socket(), and the old one back after it")
    add("--fsuid", metavar="USER", help="take this file-system uid for socket()")
    add("--uids", metavar="R,E,S", help="take a real, an effective and a saved user")
    add("--chown", metavar="USER", help="give the socket to this user, by fchown()")
    flag("--no-capabilities", help="drop all capabilities first")
    add("--fork", type=int, metavar="N", help="fork so many children")
    add("--fork-at", choices=MOMENTS, default=MOMENTS[3], help="when; after-listen without it")
    ways = ("accept", "epoll", "exclusive", "fork", "none")
    add("--wait", choices=ways, default="accept", help="how to wait; fork: a child a connection")
    add("--later", default="", metavar="A,B", help=f"at each SIGUSR1: {', '.join(LATER + OPTIONS)}")
    flag("--supervise", help="leave serving to the children; at each SIGUSR1 fork another")
    add("--hand-to", metavar="PATH", help="hand the socket over at this UNIX socket, then go on")
    add("--receive", metavar="PATH", help="serve on the socket that is handed over there")
    add("--take", metavar="PID,FD", help="serve on a copy of another process's socket")
    add("--fd", type=int, help="serve on this inherited descriptor")
    add("--steer", type=int, metavar="N", help="choose a listener by the client's port modulo N")
    add("--work", type=float, default=0, metavar="MS", help="wait so long before each answer")
    flag("--mute", help="accept, and never answer")
    flag("--hold", help="keep accepted connections open")
    flag("--close-first", help="close before the client does")
    flag("--http", help="answer as HTTP")
    flag("--once", help="end after one client")
    flag("--quiet", help="do not show accept()")
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
        if action not in LATER + OPTIONS:
            parser.error(f"--later {action}: there are {', '.join(LATER + OPTIONS)}")
    return options


if __name__ == "__main__":
    main()
