"""The less usual things that the server can do; each is an option, or named by --later."""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import os
import socket
import struct
import sys

from labs.engine.play.tools.calls import say, show, show_address, uid_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from labs.engine.play.tools.server import Server

SO_ATTACH_REUSEPORT_CBPF = 51
# By their option: what is set before bind(), to what is given there.
SETTINGS = {
    "freebind": ("IPPROTO_IP", "IP_FREEBIND", 15),
    "multicast_all": ("IPPROTO_IP", "IP_MULTICAST_ALL", 49),
    "incoming_cpu": ("SOL_SOCKET", "SO_INCOMING_CPU", 49),
}
KEPT = ("hold", "close-first", "http", "quiet")  # what a server goes on doing after exec
CLONE_NEWNET = 0x40000000
SYS_PIDFD_GETFD = 438
# bpf(4): where a program finds the client's port, and the processor.
LOADS = {"steer-port": (0x28, 0xFFF00000 + 20), "steer-cpu": (0x20, 0xFFFFF000 + 36)}


def libc(name: str, *arguments: object) -> int:
    """Call a function of the C library that Python has not; raises OSError."""
    value = int(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))
    if value < 0:
        raise OSError(ctypes.get_errno(), name)
    return value


# --- before bind() ------------------------------------------------------------------------


def change_user(options: argparse.Namespace) -> None:
    """Lose every capability and keep the user (capset(2)), or take three users (setresuid(2))."""
    if options.no_capabilities:
        header, none = struct.pack("=2I", 0x20080522, 0), bytes(24)
        show("capset(0)", libc, "capset", header, none)
    if options.uids:
        uids = [uid_of(user) for user in options.uids.split(",")]
        show(f"setresuid({', '.join(map(str, uids))})", os.setresuid, *uids)


def set_fsuid(user: str) -> None:
    """Take a file-system uid, and keep the others."""
    uid = uid_of(user)
    ctypes.CDLL(None).setfsuid(uid)
    say(f"setfsuid({uid})")


def take_over(options: argparse.Namespace) -> socket.socket:
    """A socket that another process has made: inherited, handed over, or copied."""
    if options.fd:
        return socket.socket(fileno=options.fd)
    if options.receive:
        return receive(options.receive)
    pid, descriptor = map(int, options.take.split(","))
    shown = f"pidfd_getfd({pid}, {descriptor})"
    call = ("syscall", SYS_PIDFD_GETFD, os.pidfd_open(pid), descriptor, 0)
    return socket.socket(fileno=show(shown, libc, *call))


def receive(path: str) -> socket.socket:
    """The socket that another process hands over at a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as door:
        show(f'connect("{path}")', door.connect, path)
        _, descriptors, _, _ = socket.recv_fds(door, 1, 1)
    say(f"recvmsg(SCM_RIGHTS) = {descriptors}")
    return socket.socket(fileno=descriptors[0])


def set_more(server: Server) -> None:
    """The less usual options of a socket, and its owner."""
    options = server.options
    for name, (level, shown, number) in SETTINGS.items():
        if getattr(options, name) is not None:
            server.set(level, shown, getattr(options, name), number)
    for device in options.device:
        server.set("SOL_SOCKET", "SO_BINDTODEVICE", device.encode())
    if options.group:
        member = socket.inet_aton(options.group) + socket.inet_aton("127.0.0.1")
        server.set("IPPROTO_IP", "IP_ADD_MEMBERSHIP", member)
    if options.chown:
        uid = uid_of(options.chown)
        show(f"fchown({server.number}, {uid})", os.fchown, server.number, uid, -1)


# --- after bind() -------------------------------------------------------------------------


def connect(server: Server) -> None:
    """connect(2): from then on a UDP socket receives from this peer alone."""
    peer = (server.options.peer[0], int(server.options.peer[1]))
    show(f"connect({server.number}, {show_address(peer)})", server.socket.connect, peer)


def steer(server: Server, by: str = "steer-port") -> None:
    """Let the client's port or the processor, modulo the members, choose the listener (cBPF)."""
    members = server.options.steer or 4
    steps: tuple[tuple[int, int], ...] = ((0x06, 99),)  # a place that nobody has
    if by in LOADS:
        steps = (LOADS[by], (0x94, members), (0x16, 0))
    code = array.array("B", b"".join(struct.pack("HBBI", word, 0, 0, k) for word, k in steps))
    program = struct.pack("HP", len(steps), code.buffer_info()[0])
    rule = f"{by[6:]} % {members}" if by in LOADS else "99"
    shown = f"setsockopt({server.number}, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, {rule})"
    call = (socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)
    show(shown, server.socket.setsockopt, *call)


# --- at a SIGUSR1 -------------------------------------------------------------------------


def accept(server: Server) -> None:
    """Accept on a socket that listens by somebody else's doing."""
    server.listens = True


def pause(server: Server) -> None:
    """Accept no more; an accept() that waits already is not undone."""
    server.listens, server.pauses = False, True


def drain(server: Server) -> None:
    """Answer what waits in the queue, and close."""
    server.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            server.answer(server.socket.accept()[0])
    server.close()


def reuse_held(server: Server) -> None:
    """SO_REUSEADDR on the connections that are held."""
    for held in server.held:
        shown = f"setsockopt({held.fileno()}, SOL_SOCKET, SO_REUSEADDR, 1)"
        show(shown, held.setsockopt, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def close_held(server: Server) -> None:
    """Close the connections that are held."""
    for held in server.held:
        show(f"close({held.fileno()})", held.close)


def hand(server: Server) -> None:
    """Send the socket to whoever comes to a UNIX socket, once (SCM_RIGHTS of unix(7))."""
    path = server.options.hand_to
    with socket.socket(socket.AF_UNIX) as door, contextlib.suppress(FileNotFoundError):
        show(f'bind("{path}")', door.bind, path)
        os.chmod(path, 0o666)  # noqa: S103 - anybody may come
        show(f'listen("{path}")', door.listen)
        connection, _ = door.accept()
        with connection:
            socket.send_fds(connection, [b"\0"], [server.number])
            say(f"sendmsg(SCM_RIGHTS, [{server.number}])")
        os.unlink(path)


def unshare(_server: Server) -> None:
    """Move to a new network namespace; the socket stays where it was made."""
    show("unshare(CLONE_NEWNET)", libc, "unshare", CLONE_NEWNET)


def execute(server: Server) -> None:
    """Become this program anew, with the socket as an inherited descriptor."""
    server.socket.set_inheritable(True)
    os.set_blocking(server.number, True)
    kept = [f"--{name}" for name in KEPT if getattr(server.options, name.replace("-", "_"))]
    way = ("--wait", server.options.wait, *kept)
    program = sys.argv[0]
    say(f'execve("{os.path.basename(program)}", --fd {server.number})')
    os.execv(program, [program, "--fd", str(server.number), *way])


def leave(_server: Server) -> None:
    """End at once, and let the kernel close all."""
    say("exit(0)")
    os._exit(0)


ACTIONS: Mapping[str, Callable[[Server], None]] = {
    "accept": accept,
    "pause": pause,
    "drain": drain,
    "hand": hand,
    "unshare": unshare,
    "exec": execute,
    "exit": leave,
    "reuseaddr-held": reuse_held,
    "close-held": close_held,
    "steer-port": steer,
    "steer-cpu": functools.partial(steer, by="steer-cpu"),
    "steer-beyond": functools.partial(steer, by="steer-beyond"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command line has for all this."""
    add = parser.add_argument_group("less usual").add_argument
    flag = functools.partial(add, action="store_true")
    add("--freebind", action="store_const", const=1, help="IP_FREEBIND")
    add("--device", action="append", default=[], help="SO_BINDTODEVICE; twice: one, then another")
    add("--incoming-cpu", type=int, metavar="N", help="SO_INCOMING_CPU")
    add("--steer", type=int, metavar="N", help="choose a listener by the client's port modulo N")
    add("--group", metavar="ADDRESS", help="join this multicast group on the loopback interface")
    add("--multicast-all", type=int, choices=(0, 1), help="IP_MULTICAST_ALL")
    add("--peer", type=lambda text: text.split(","), metavar="HOST,PORT", help="connect() to it")
    add("--fsuid", metavar="USER", help="take this file-system uid for socket()")
    add("--uids", metavar="R,E,S", help="take a real, an effective and a saved user")
    add("--chown", metavar="USER", help="give the socket to this user, by fchown()")
    flag("--no-capabilities", help="drop all capabilities first")
    add("--hand-to", metavar="PATH", help="hand the socket over at this UNIX socket, then go on")
    add("--receive", metavar="PATH", help="serve on the socket that is handed over there")
    add("--take", metavar="PID,FD", help="serve on a copy of another process's socket")
    add("--fd", type=int, help="serve on this inherited descriptor")
