"""Reads calls as they are shown: what they were aimed at, and which descriptor is which socket."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labs.engine.model import CallMade

# An IPv4 address, or an IPv6 address in brackets, and a port.
ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|(\d+\.\d+\.\d+\.\d+)):(\d+)")
NAME = re.compile(r"(\w+)\((\d*)")
DESCRIPTOR = re.compile(r"\d+")
UNIX_NAME = re.compile(r'\(\d+, "([^"]+)"\)')  # of unix(7)
NEW_NETWORK = "CLONE_NEWNET"
INTERNET = "AF_INET"  # or AF_INET6
KINDS = {"SOCK_STREAM": "tcp", "SOCK_DGRAM": "udp"}
# Calls that are drawn where they succeed too; others are drawn where they are refused.
DRAWN = {
    "bind": "bind",
    "listen": "listen",
    "connect": "connect",
    "sendto": "sendto",
    "request": "connect",
    "request_from_sleep": "connect",
    "load": "load",
    "publish": "publish",
}
MANY = {"request", "request_from_sleep"}  # whose result says how often
ASKED = re.compile(r"asked (\d+)")


@dataclass(frozen=True)
class Endpoint:
    """A process's socket: its protocol, and the address that it was bound to, None for none.

    It `is_away` where it belongs to a network namespace that is no host's.
    """

    protocol: str
    address: tuple[str, int] | None = None
    is_away: bool = False


@dataclass(frozen=True)
class ShownCall:
    """A call: its name, its first number if it has one, the address in it, and how often.

    `unix_name` is the name of a UNIX socket in it, empty for none.
    """

    name: str
    descriptor: int | None
    address: tuple[str, int] | None
    count: int
    unix_name: str


def read_call(call: CallMade) -> ShownCall | None:
    """What a call was; None for what is none, such as a process's end."""
    found = NAME.match(call.call)
    if not found:
        return None
    name, number = found.groups()
    times = ASKED.match(call.result) if name in MANY else None
    return ShownCall(
        name,
        int(number) if number else None,
        read_address(call.call),
        int(times.group(1)) if times else 1,
        read_unix_name(name, call.call),
    )


def read_unix_name(name: str, text: str) -> str:
    """The name of a UNIX socket that is bound or connected to; empty for another call."""
    found = UNIX_NAME.search(text) if name in ("bind", "connect") else None
    return found.group(1) if found else ""


def read_address(text: str) -> tuple[str, int] | None:
    """The last address with a port in a text; None without one."""
    found = ADDRESS.findall(text)
    if not found:
        return None
    ipv6, ipv4, port = found[-1]
    return ipv6 or ipv4, int(port)


class Descriptors:
    """Which socket each descriptor of each process is, as far as calls have said it."""

    def __init__(self) -> None:
        self._endpoints: dict[str, dict[int, Endpoint]] = {}
        self._away: set[str] = set()  # who has left its host's network namespace

    def copy(self, parent: str, child: str) -> None:
        """A child has what its parent has at that moment: fork(2)."""
        self._endpoints[child] = dict(self._endpoints.get(parent, {}))
        if parent in self._away:
            self._away.add(child)

    def find(self, process: str, descriptor: int | None) -> Endpoint | None:
        """The socket of a descriptor, None where it is not known."""
        return None if descriptor is None else self._endpoints.get(process, {}).get(descriptor)

    def find_bound(self, process: str) -> Endpoint | None:
        """The first socket of a process that was bound, None where it has none."""
        own = self._endpoints.get(process, {}).values()
        return next((endpoint for endpoint in own if endpoint.address), None)

    def is_away(self, process: str) -> bool:
        """Whether sockets that a process makes now belong to no host."""
        return process in self._away

    def take(self, process: str, call: ShownCall, made: CallMade) -> None:
        """Learn from a call that succeeded."""
        own = self._endpoints.setdefault(process, {})
        if call.name == "unshare" and NEW_NETWORK in made.call:
            self._away.add(process)
        elif call.name == "setns":
            # Without a process whose namespace it joins, it comes back.
            (self._away.discard if call.descriptor is None else self._away.add)(process)
        elif call.name == "socket" and INTERNET in made.call and DESCRIPTOR.fullmatch(made.result):
            kind = next((name for text, name in KINDS.items() if text in made.call), "")
            own[int(made.result)] = Endpoint(kind, is_away=process in self._away)
        elif call.descriptor is None:
            return
        elif call.name == "bind" and call.address:
            before = own.get(call.descriptor, Endpoint("tcp"))
            own[call.descriptor] = replace(before, address=call.address)
        elif call.name == "close":
            own.pop(call.descriptor, None)
