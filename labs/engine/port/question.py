"""The bind() that one has in mind, read from a command line."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import pwd
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.capabilities import capability_names
from labs.engine.errors import CannotRun, UsageError
from labs.engine.rules.calls import BIND_SERVICE
from labs.engine.rules.sockets import IPV4, IPV6, TCP, UDP
from labs.engine.warm_parent import read_field

if TYPE_CHECKING:
    from labs.engine.rules.sockets import Family, Protocol

LAST_PORT = 65_535
LARGEST_UID = (1 << 32) - 2
NS_GET_USERNS = 0xB701  # include/uapi/linux/nsfs.h


@dataclass(frozen=True)
class Question:
    """A bind(), and a listen() after it for TCP: by whom, with which options, where.

    `netns` is the pid of a process in whose network namespace it is; None for that of who asks.
    """

    port: int
    uid: int
    protocol: Protocol = TCP
    address: str = "0.0.0.0"
    capabilities: frozenset[str] = frozenset()
    reuseaddr: bool = False
    reuseport: bool = False
    v6only: bool = False
    device: str = ""
    netns: int | None = None

    @property
    def family(self) -> Family:
        """The family that a socket needs for this address."""
        return IPV6 if ":" in self.address else IPV4


@dataclass(frozen=True)
class Wish:
    """What the command line says, as it says it."""

    port: str
    user: str | None = None
    address: str = "0.0.0.0"
    udp: bool = False
    reuseaddr: bool = False
    reuseport: bool = False
    v6only: bool = False
    device: str = ""
    capability: bool = False
    netns: str | None = None


def read_question(wish: Wish) -> Question:
    """The question; UsageError for what cannot be meant, CannotRun for what the rules leave out."""
    address = read_address(wish.address)
    if wish.v6only and ":" not in address:
        raise UsageError(f"--v6only is for an IPv6 address, and {address} is none.")
    uid = os.geteuid() if wish.user is None else read_user(wish.user)
    netns = None if wish.netns is None else read_pid(wish.netns)
    return Question(
        read_port(wish.port),
        uid,
        UDP if wish.udp else TCP,
        address,
        read_capabilities(uid, netns, is_given=wish.capability),
        wish.reuseaddr,
        wish.reuseport,
        wish.v6only,
        wish.device,
        netns,
    )


def as_root(question: Question) -> str:
    """The command that asks the same as root, who sees more."""
    words = [str(question.port), "--user", str(question.uid)]
    if question.address != "0.0.0.0":
        words += ["--address", question.address]
    flags = {
        "udp": question.protocol is UDP,
        "reuseaddr": question.reuseaddr,
        "reuseport": question.reuseport,
        "v6only": question.v6only,
        "capability": bool(question.capabilities) and question.uid != 0,
    }
    words += [f"--{name}" for name, is_set in flags.items() if is_set]
    if question.device:
        words += ["--device", question.device]
    if question.netns is not None:
        words += ["--netns", str(question.netns)]
    return f'sudo env "PATH=$PATH" invoke port.why {shlex.join(words)}'


def read_port(text: str) -> int:
    """A port; UsageError where it is none."""
    if not is_number(text) or not 1 <= int(text) <= LAST_PORT:
        raise UsageError(f"{text} is no port: it takes a number from 1 to {LAST_PORT}.")
    return int(text)


def read_address(text: str) -> str:
    """An address as the kernel writes it; UsageError where it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no address: it takes one of IPv4 or IPv6, as 0.0.0.0, 127.0.0.1 or ::."
        ) from None
    is_left_out = address.is_multicast or address.is_link_local or "%" in text
    if is_left_out or text == "255.255.255.255":
        raise CannotRun(
            f"The rules do not know {text}: multicast, broadcast and link-local addresses are left "
            "out of them.",
            "docs/decisions/0017-the-rules.md says what else is.",
        )
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return f"::ffff:{address.ipv4_mapped}"
    return str(address)


def read_user(text: str) -> int:
    """The uid of a user by name or number; UsageError where there is no such user."""
    if is_number(text):
        if int(text) > LARGEST_UID:
            raise UsageError(f"{text} is no uid.")
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise UsageError(f"There is no user {text!r}.", "A uid will do as well.") from None


def read_pid(text: str) -> int:
    """A pid; UsageError where it is none."""
    if not is_number(text) or not 0 < int(text) < 1 << 22:
        raise UsageError(f"--netns takes the pid of a process, not {text!r}.")
    return int(text)


def is_number(text: str) -> bool:
    """Whether a text is nothing but digits."""
    return text.isascii() and text.isdigit()


def read_capabilities(uid: int, netns: int | None, *, is_given: bool) -> frozenset[str]:
    """What a bind() may ask for: one's own, all of another root's, none of any other user's."""
    has_it = uid == 0
    if uid == os.geteuid():
        has_it = BIND_SERVICE in own_capabilities() and is_above(netns)
    return frozenset({BIND_SERVICE}) if has_it or is_given else frozenset()


def is_above(netns: int | None) -> bool:
    """Whether one's capabilities count in a process's network namespace; None stands for one's own.

    They do where it is of one's user namespace, or of one below: the others are not shown.
    """
    try:
        with open(f"/proc/{netns or 'self'}/ns/net") as namespace:
            os.close(fcntl.ioctl(namespace, NS_GET_USERNS))
    except OSError:
        return False
    return True


def own_capabilities() -> tuple[str, ...]:
    """The names of this process's effective capabilities."""
    with open("/proc/self/status") as status:
        mask = read_field(status.read(), "CapEff")
    return capability_names(int(mask, 16))


def name_user(uid: int) -> str:
    """A user's name with the uid, or the uid alone where it has no name."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"uid {uid}"
