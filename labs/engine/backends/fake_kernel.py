"""The fake backend's sockets: who may bind, who gets a connection, and how one ends, in memory.

What it leaves out of a kernel: devices, so that multicast stays on its host, and multicast of IPv6;
every option's meaning but SO_REUSEADDR's, SO_REUSEPORT's, IPV6_V6ONLY's and those of who gets
multicast, the others are only kept; clocks, so that TIME_WAIT lasts for ever; full buffers, SHUT_RD
of a connection. A connection is made, and ended, at once, and a port that the fake chooses is one
that no other socket of the host has.
"""

from __future__ import annotations

import errno
import os
import socket
import zlib
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, TypeAlias

from labs.engine.model import Address, SocketRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from labs.engine.backends.fake_process import FakeProcess
    from labs.engine.backends.fake_unix import FakeUnixSocket
    from labs.engine.backends.fake_work import FakeLoad, FakeServer

IP: TypeAlias = IPv4Address | IPv6Address
End: TypeAlias = tuple[IP, int]

PROTOCOLS = {int(socket.SOCK_STREAM): "tcp", int(socket.SOCK_DGRAM): "udp"}
IPV4_WILDCARD, IPV6_WILDCARD = IPv4Address("0.0.0.0"), IPv6Address("::")
WILDCARDS: Mapping[int, IP] = {socket.AF_INET: IPV4_WILDCARD, socket.AF_INET6: IPV6_WILDCARD}
LOOPBACKS: Mapping[int, IP] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}
V6ONLY = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
JOIN = (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP)
MULTICAST_ALL = (socket.IPPROTO_IP, 49)  # IP_MULTICAST_ALL, on where nobody sets it
TIME_WAIT_MILLISECONDS = 60_000
IP_FREEBIND = 15
DEVICE = (int(socket.SOL_SOCKET), socket.SO_BINDTODEVICE)
DEVICES = ("lo", "eth0")
CHOSEN_PORTS = range(32_768, 0x10000)


class Hangs(Exception):
    """A call for which a kernel would let its process wait."""


def refusal(number: int) -> OSError:
    """The error of a call that is refused with this errno."""
    return OSError(number, os.strerror(number))


def parse_end(family: int, address: Address) -> End:
    """An address and a port; ValueError for what is none of this family, a host's name included."""
    text, port = address
    ip = ip_address(text) if text else WILDCARDS[family]
    if ip.version != WILDCARDS[family].version or not 0 <= port <= 0xFFFF:
        raise ValueError("no address and port of this family")
    return (isinstance(ip, IPv6Address) and ip.ipv4_mapped) or ip, port


class FakeHost:
    """A network namespace: its addresses, and its sockets in the order in which they came."""

    def __init__(
        self,
        addresses: list[IP],
        unprivileged_port_start: int,
        tcp_migrate_req: bool,  # as the plan has it
        others: Mapping[str, FakeHost],
        inodes: Iterator[int],
    ) -> None:
        self.addresses = addresses
        self.unprivileged_port_start = unprivileged_port_start
        self.tcp_migrate_req = tcp_migrate_req
        self.inodes = inodes
        self.sockets: list[FakeSocket] = []
        self.unix: dict[str, FakeUnixSocket] = {}
        self.loads: list[FakeLoad] = []
        self.processes = 1  # the host's own process 1
        self.running: dict[int, FakeProcess] = {}
        self._others = others

    def has(self, ip: IP) -> bool:
        """Whether this is an address of this host's."""
        return ip.is_loopback or ip in self.addresses

    def route(self, ip: IP) -> FakeHost:
        """The host that has this address."""
        if self.has(ip):
            return self
        for host in self._others.values():
            if ip in host.addresses:
                return host
        raise refusal(errno.ENETUNREACH)

    def source(self, ip: IP) -> IP:
        """The address from which this host speaks to another."""
        own = [own for own in self.addresses if own.version == ip.version]
        return LOOPBACKS[ip.version] if ip.is_loopback else own[0]

    def choose_port(self, kind: int) -> int:
        """A port that no socket of this kind has."""
        taken = {other.local[1] for other in self.sockets if other.kind == kind}
        port = next((port for port in CHOSEN_PORTS if port not in taken), None)
        if port is None:
            raise refusal(errno.EADDRINUSE)
        return port

    def find_receiver(self, kind: int, source: End, target: End) -> FakeSocket | None:
        """The socket that gets what `source` sends to `target`: the most specific one.

        Of a reuseport group the member that a hash of both ends names; of several UDP sockets that
        share by SO_REUSEADDR the last.
        """
        found = [
            other for other in self.sockets if other.kind == kind and other.gets(source, target)
        ]
        if not found:
            return None
        best = max(other.rank for other in found)
        found = [other for other in found if other.rank == best]
        group = [other for other in found if other.is_set(socket.SO_REUSEPORT)]
        if found[-1] in group:
            return group[zlib.crc32(repr((source, target)).encode()) * len(group) >> 32]
        return found[-1]

    def find_members(self, target: End) -> list[FakeSocket]:
        """The UDP sockets that get what is sent to a multicast group: each a copy."""
        found = [other for other in self.sockets if other.kind == socket.SOCK_DGRAM]
        if not any(target[0] in other.groups for other in found):
            return []
        return [other for other in found if other.gets_multicast(target)]


@dataclass(eq=False)
class FakeSocket:
    """One socket, with its system calls.

    `holders` counts descriptors, `waiting` is a listener's accept queue, `other` a connection's
    other end. An IPv4 address is kept as one where the socket is IPv6, and shown as mapped there.
    """

    host: FakeHost
    family: int
    kind: int
    uid: int
    inode: int
    local: End
    peer: End
    options: dict[tuple[int, int], int] = field(default_factory=dict)
    state: str = "CLOSE"
    holders: int = 0
    backlog: int = 0
    waiting: list[FakeSocket] = field(default_factory=list)
    other: FakeSocket | None = None
    received: list[str] = field(default_factory=list)
    error: int = 0
    device: str = ""
    servers: list[FakeServer] = field(default_factory=list)
    groups: set[IP] = field(default_factory=set)

    @property
    def is_stream(self) -> bool:
        """Whether this is TCP."""
        return self.kind == socket.SOCK_STREAM

    @property
    def is_left(self) -> bool:
        """Whether the kernel alone still knows the socket, waiting for its connection's end."""
        return self.state == "TIME_WAIT" or (self.state == "FIN_WAIT2" and not self.holders)

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """How specific the socket is, among those that could get the same."""
        is_specific = not self.local[0].is_unspecified
        return self.peer[1] > 0, is_specific, self.family == socket.AF_INET

    def is_set(self, option: int) -> bool:
        """Whether an option of SOL_SOCKET is set."""
        return bool(self.options.get((socket.SOL_SOCKET, option)))

    def gets(self, source: End, target: End) -> bool:
        """Whether what `source` sends to `target` can be for this socket."""
        if self.local[1] != target[1] or (self.is_stream and self.state != "LISTEN"):
            return False
        return self._meets(self.local[0], target[0]) and (not self.peer[1] or self.peer == source)

    def gets_multicast(self, target: End) -> bool:
        """Whether a multicast that the host takes is for this socket: without joining it too."""
        is_open = target[0] in self.groups or bool(self.options.get(MULTICAST_ALL, 1))
        return is_open and self.local[1] == target[1] and self._meets(self.local[0], target[0])

    # --- calls ---

    def setsockopt(self, level: int, option: int, value: int | str) -> int:
        """Of an option that is not a number only a group to join and a device count."""
        if (level, option) == V6ONLY and self.family != socket.AF_INET6:
            raise refusal(errno.ENOPROTOOPT)
        if (level, option) == V6ONLY and self.local[1]:
            raise refusal(errno.EINVAL)
        if isinstance(value, str):
            content = value.encode("latin-1")
            if (level, option) == JOIN:
                self.groups.add(IPv4Address(content[:4]))
            if (level, option) == DEVICE:
                self._bind_to_device(value)
        else:
            self.options[level, option] = value
        return 0

    def getsockopt(self, level: int, option: int) -> int:
        """0 for an option that nobody has set."""
        return self.options.get((level, option), 0)

    def attach_reuseport_cbpf(self, _program: tuple[int, ...]) -> int:
        """Not followed: the hash goes on to choose."""
        return 0

    def drain(self, _name: str) -> int:
        """Nothing waits: whoever asks here is answered at once."""
        return 0

    def getsockname(self) -> Address:
        """As Python writes it."""
        return self._show(self.local)

    def bind(self, address: Address, is_privileged: bool) -> int:
        """Port 0 stands for a free one."""
        ip, port = parse_end(self.family, address)
        if self.family == socket.AF_INET6 and ip.version == 4 and self.options.get(V6ONLY):
            raise refusal(errno.EINVAL)
        is_free = self.options.get((socket.IPPROTO_IP, IP_FREEBIND))
        if not (ip.is_unspecified or ip.is_multicast or self.host.has(ip) or is_free):
            raise refusal(errno.EADDRNOTAVAIL)
        if 0 < port < self.host.unprivileged_port_start and not is_privileged:
            raise refusal(errno.EACCES)
        if self.local[1]:
            raise refusal(errno.EINVAL)
        self._take((ip, port or self.host.choose_port(self.kind)))
        return 0

    def listen(self, backlog: int) -> int:
        """Asks for the port once more."""
        if not self.is_stream:
            raise refusal(errno.EOPNOTSUPP)
        if self.state not in ("CLOSE", "LISTEN"):
            raise refusal(errno.EINVAL)
        if self.state == "CLOSE":
            self._take((self.local[0], self.local[1] or self.host.choose_port(self.kind)))
        self.state, self.backlog = "LISTEN", max(backlog, 0)
        return 0

    def connect(self, address: Address) -> int:
        """TCP: the connection waits in a listener's queue when this returns."""
        ip, port = parse_end(self.family, address)
        if self.is_stream and self.state != "CLOSE":
            raise refusal(errno.EISCONN)
        target = (LOOPBACKS[ip.version] if ip.is_unspecified else ip), port
        there = self.host.route(target[0])
        own = self.local[0]
        source = self.host.source(target[0]) if own.is_unspecified else own
        local = source, self.local[1] or self.host.choose_port(self.kind)
        if self.is_stream:
            self._queue(there, local, target)
        self.local, self.peer, self.state = local, target, "ESTABLISHED"
        self.appear()
        return 0

    def accept(self, uid: int) -> FakeSocket:
        """The connection becomes the accepter's own."""
        if not self.is_stream:
            raise refusal(errno.EOPNOTSUPP)
        if self.state != "LISTEN":
            raise refusal(errno.EINVAL)
        if not self.waiting:
            raise Hangs("no connection is waiting")
        accepted = self.waiting.pop(0)
        accepted.uid, accepted.inode = uid, next(self.host.inodes)
        return accepted

    def send(self, text: str) -> int:
        """The number of bytes."""
        size = len(text.encode("latin-1"))
        self._raise_error()
        if not self.is_stream:
            self._send_datagram(text)
        elif self.other is None or self.state not in ("ESTABLISHED", "CLOSE_WAIT"):
            raise refusal(errno.EPIPE)
        elif self.other.is_left:
            self.other.reset()
        else:
            self.other.received.append(text)
        return size

    def sendto(self, text: str, address: Address) -> int:
        """To somebody else than the peer, if there is one; a stream has but its peer."""
        if self.is_stream:
            return self.send(text)
        ip, port = parse_end(self.family, address)
        if not self.local[1]:
            self._take((self.local[0], self.host.choose_port(self.kind)))
        if ip.is_multicast:
            for member in self.host.find_members((ip, port)):
                member.received.append(text)
            return len(text.encode("latin-1"))
        source = self.local
        if source[0].is_unspecified:
            source = self.host.source(ip), source[1]
        receiver = self.host.route(ip).find_receiver(self.kind, source, (ip, port))
        if receiver is not None:
            receiver.received.append(text)
        return len(text.encode("latin-1"))

    def recv(self, size: int) -> str:
        """Of a datagram that is longer the rest is lost."""
        if self.received:
            text = "".join(self.received) if self.is_stream else self.received[0]
            rest = [text[size:]] if text[size:] else []
            self.received = rest if self.is_stream else self.received[1:]
            return text[:size]
        self._raise_error()
        if self.is_stream and self.other is None:
            raise refusal(errno.ENOTCONN)
        if self.is_stream and self.state in ("CLOSE_WAIT", "TIME_WAIT", "CLOSE"):
            return ""
        raise Hangs("nothing has come")

    def shutdown(self, how: int) -> int:
        """A listener stops listening and keeps its port."""
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise refusal(errno.EINVAL)
        if self.state == "CLOSE":
            raise refusal(errno.ENOTCONN)
        if self.state == "LISTEN" and how != socket.SHUT_WR:
            self._stop_listening()
        elif how != socket.SHUT_RD:
            self._finish()
        return 0

    def release(self) -> None:
        """One descriptor less; the last one closes the socket."""
        self.holders -= 1
        if self.holders:
            return
        if self.state == "LISTEN":
            self._stop_listening()
        if self.other is None or self.state == "CLOSE":
            self.vanish()
        elif self.received and self.state != "TIME_WAIT":
            self.reset()
        else:
            self._finish()

    def reset(self) -> None:
        """End the connection by force; the other end gets an error."""
        for end in (self, self.other):
            if end is not None and end.state != "CLOSE":
                end.error = errno.EPIPE if end.state == "CLOSE_WAIT" else errno.ECONNRESET
                end.vanish()

    def appear(self) -> None:
        """Be one of the host's sockets, with a port."""
        if self not in self.host.sockets:
            self.host.sockets.append(self)

    def vanish(self) -> None:
        """Leave the port."""
        self.state = "CLOSE"
        if self in self.host.sockets:
            self.host.sockets.remove(self)

    def row(self) -> SocketRow:
        """What sock_diag(7) says: no inode and no owner where the kernel alone has the socket."""
        queues = (sum(map(len, self.received)), 0)
        return SocketRow(
            PROTOCOLS[self.kind],
            self.state,
            self._show(self.local),
            self._show(self.peer),
            0 if self.is_left else self.uid,
            0 if self.is_left else self.inode,
            *((len(self.waiting), self.backlog) if self.state == "LISTEN" else queues),
            *(("TIME_WAIT", TIME_WAIT_MILLISECONDS) if self.is_left else ()),
        )

    # --- their parts ---

    def _bind_to_device(self, name: str) -> None:
        """Once, and to one that every host has."""
        if self.device:
            raise refusal(errno.EPERM)
        if name not in DEVICES:
            raise refusal(errno.ENODEV)
        self.device = name

    def _take(self, local: End) -> None:
        if any(self._is_refused_by(other, local) for other in self.host.sockets):
            raise refusal(errno.EADDRINUSE)
        self.local = local
        self.appear()

    def _is_refused_by(self, other: FakeSocket, local: End) -> bool:
        """The one rule of bind() and listen(), of TCP and UDP: a UDP socket is never in LISTEN."""
        if other is self or (other.kind, other.local[1]) != (self.kind, local[1]):
            return False
        if self.device and other.device and self.device != other.device:
            return False
        if not (other._meets(other.local[0], local[0]) or self._meets(local[0], other.local[0])):
            return False
        have_reuseaddr, have_reuseport = (
            self.is_set(option) and other.is_set(option)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
        )
        if have_reuseaddr and other.state != "LISTEN":
            return False
        return not (have_reuseport and (other.uid == self.uid or other.is_left))

    def _meets(self, own: IP, ip: IP) -> bool:
        """Whether this socket, bound to `own`, has the address; `::` has all of IPv4 too."""
        if own.version == ip.version:
            return own.is_unspecified or own == ip
        return own == IPV6_WILDCARD and not self.options.get(V6ONLY)

    def _queue(self, there: FakeHost, local: End, target: End) -> None:
        listener = there.find_receiver(self.kind, local, target)
        if listener is None:
            raise refusal(errno.ECONNREFUSED)
        if any(entry.local == local and entry.peer == target for entry in self.host.sockets):
            raise refusal(errno.EADDRNOTAVAIL)
        if len(listener.waiting) > listener.backlog:
            raise Hangs("the accept queue is full")
        family, options = listener.family, dict(listener.options)
        self.other = FakeSocket(
            there, family, self.kind, listener.uid, 0, target, local, options, "ESTABLISHED"
        )
        self.other.other = self
        self.other.appear()
        listener.waiting.append(self.other)

    def _send_datagram(self, text: str) -> None:
        if not self.peer[1]:
            raise refusal(errno.EDESTADDRREQ)
        there = self.host.route(self.peer[0])
        receiver = there.find_receiver(self.kind, self.local, self.peer)
        if receiver is None:
            self.error = errno.ECONNREFUSED  # comes back by ICMP, for the next call
        else:
            receiver.received.append(text)

    def _finish(self) -> None:
        """Nothing more will be sent: the end that says so first stays in TIME_WAIT."""
        if self.other is not None and self.state == "ESTABLISHED":
            self.state, self.other.state = "FIN_WAIT2", "CLOSE_WAIT"
        elif self.other is not None and self.state == "CLOSE_WAIT":
            self.vanish()
            self.other.state = "TIME_WAIT"

    def _stop_listening(self) -> None:
        self.state = "CLOSE"
        heir = self._find_heir()
        while self.waiting:
            if heir:
                heir.waiting.append(self.waiting.pop(0))
            else:
                self.waiting.pop().reset()

    def _find_heir(self) -> FakeSocket | None:
        """Who takes what waits here, where the host migrates requests."""
        if not self.host.tcp_migrate_req:
            return None
        source = IPV4_WILDCARD, 0
        return self.host.find_receiver(self.kind, source, self.local)

    def _raise_error(self) -> None:
        number, self.error = self.error, 0
        if number:
            raise refusal(number)

    def _show(self, end: End) -> Address:
        ip, port = end
        is_mapped = self.family == socket.AF_INET6 and ip.version == 4
        return (f"::ffff:{ip}" if is_mapped else str(ip), port)
