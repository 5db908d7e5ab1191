"""Shows calls as strace(1) would."""

import json
import os
import signal
import socket
import struct
from collections.abc import Mapping

from labs.engine.model import SLOT, TIMES, Argument, Call, CallResult, Reference, Value
from labs.engine.plans import Publication

LEVELS = {
    socket.SOL_SOCKET: "SOL_SOCKET",
    socket.IPPROTO_IP: "IPPROTO_IP",
    socket.IPPROTO_TCP: "IPPROTO_TCP",
    socket.IPPROTO_IPV6: "IPPROTO_IPV6",
}
PREFIXES = {
    socket.SOL_SOCKET: "SO_",
    socket.IPPROTO_IP: "IP_",
    socket.IPPROTO_TCP: "TCP_",
    socket.IPPROTO_IPV6: "IPV6_",
}
FOREIGN = ("SO_J1939_", "SO_VM_SOCKETS_")  # of other levels, with the same numbers
NAMELESS = {(socket.IPPROTO_IP, 49): "IP_MULTICAST_ALL"}  # Python has no name for it
SHOWN_COUNTS = 3
CLONE_NEWNET = 0x40000000
# How what is told of programs begins that no agent drives: they say no uid with it.
TOLD = ("execve(", "write(2, ", "+++ ")
MANY_CHARACTERS = 32
MOST_WORDS = 200  # characters of a line that a program has written
TIMEOUTS = {int(socket.SO_RCVTIMEO), int(socket.SO_SNDTIMEO)}  # options that are a struct timeval
SHUTDOWN = {socket.SHUT_RD: "SHUT_RD", socket.SHUT_WR: "SHUT_WR", socket.SHUT_RDWR: "SHUT_RDWR"}


def show_call(call: Call, values: list[Value]) -> str:
    """The call with its arguments; `values` are those of the batch's calls before it."""
    arguments = [_resolve(argument, values) for argument in call.arguments]
    match call.name, arguments:
        case "socket", [int(family), int(kind), int(protocol)]:
            shown = [socket.AddressFamily(family).name, socket.SocketKind(kind).name, str(protocol)]
        case "setsockopt", [descriptor, socket.SOL_SOCKET, option, str(value)] if (
            option in TIMEOUTS
        ):
            seconds, microseconds = struct.unpack("@ll", value.encode("latin-1"))
            name = _option_name(socket.SOL_SOCKET, int(str(option)))
            shown = [str(descriptor), "SOL_SOCKET", name, f"{{{seconds}, {microseconds}}}"]
        case "setsockopt" | "getsockopt", [int(descriptor), int(level), int(option), *rest]:
            names = [LEVELS.get(level, str(level)), _option_name(level, option)]
            shown = [str(descriptor), *names, *(_show(value) for value in rest)]
        case "shutdown", [int(descriptor), int(how)]:
            shown = [str(descriptor), SHUTDOWN.get(how, str(how))]
        case "unshare", [int(flags)] if flags == CLONE_NEWNET:
            shown = ["CLONE_NEWNET"]
        case "fchown", [int(descriptor), int(uid), int(gid)]:
            shown = [str(descriptor), str(uid), str(gid)]
        case "kill", [int(pid), int(number)]:
            shown = [str(pid), signal.Signals(number).name]
        case _:
            shown = [_show(argument) for argument in arguments]
    return f"{call.name}({', '.join(shown)})"


def show_publication(publication: Publication, ipv4: str) -> str:
    """What the container engine is asked: the machine's end, and the host's."""
    machine, host = ("127.0.0.1", publication.machine_port), (ipv4, publication.port)
    return f"publish({show_address(machine)}, {show_address(host)})"


def show_result(result: CallResult) -> str:
    """The value, or -1 with the errno and its text."""
    if result.errno:
        return f"-1 {result.errno_name} ({os.strerror(result.errno)})"
    return "?" if result.value is None else _show(result.value)


def show_words(words: str) -> str:
    """A line that a program has written, so that no terminal does what stands in it."""
    rest = "..." if len(words) > MOST_WORDS else ""
    return make_readable(json.dumps(words[:MOST_WORDS] + rest, ensure_ascii=False))


def make_readable(text: str) -> str:
    """A text in which what a terminal would do, or cannot show, is written out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def printable(text: str, keeping: str = "") -> str:
    """A text in which what cannot be shown is replaced, letter by letter: names may be any bytes.

    Unprintable letters of `keeping` stay.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keeping else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def show_address(address: tuple[str, int]) -> str:
    """An address and a port, with brackets round an IPv6 address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolve(argument: Argument, values: list[Value]) -> Argument | Value:
    return values[argument.index] if isinstance(argument, Reference) else argument


def _show(value: Argument | Value) -> str:
    match value:
        case str() if value.startswith("\0"):
            return f'"@{value[1:]}"'  # an abstract name of unix(7), as ss(8) shows it
        case str():
            rest = "..." if len(value) > MANY_CHARACTERS else ""
            shown = value[:MANY_CHARACTERS].encode("unicode_escape").decode()
            return f'"{shown}{rest}"'
        case (str(host), int(port)):
            return show_address((host, port))
        case Mapping():
            named = [name for name in value if name not in TIMES and not name.startswith(SLOT)]
            counted = [(name, value[name]) for name in named if value[name]]
            return ", ".join(f"{name} {count}" for name, count in counted[:SHOWN_COUNTS])
        case tuple():
            return f"[{', '.join(_show(part) for part in value)}]"
    return str(value)


def _option_name(level: int, option: int) -> str:
    prefix = PREFIXES.get(level)
    if prefix is None:
        return str(option)
    names = (n for n in dir(socket) if n.startswith(prefix) and not n.startswith(FOREIGN))
    nameless = NAMELESS.get((level, option), str(option))
    return next((name for name in names if getattr(socket, name) == option), nameless)
