"""Wires a run's hosts to one bridge, and reads their sockets: the adapter of pyroute2."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING

from pyroute2 import DiagSocket, IPRoute, NetlinkError
from pyroute2.netlink.diag import MarshalDiag

from labs.engine.backends.namespaces.init import CLONE_NEWNET, setns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyroute2.netlink import nlmsg

    from labs.engine.agent import Json

BRIDGE = "bindlab"
LINK = "eth0"
IFA_F_NODAD = 0x02
NLMSG_ERROR = 2
NLMSG_DONE = 3

# include/net/tcp_states.h; a socket that is bound and no more is asked for by a number of its own
# (TCP_BOUND_INACTIVE, since 6.8) and reported as CLOSE.
STATES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    7: "CLOSE",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "NEW_SYN_RECV",
    13: "BOUND_INACTIVE",
}
ALL_STATES = sum(1 << number for number in STATES)
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}


class CheckedMarshal(MarshalDiag):  # type: ignore[misc]  # the library has no types
    """Reads sock_diag's answers, and its refusals too, which pyroute2 takes for an empty dump."""

    def parse_one_message(
        self, key: int, flags: int, sequence_number: int, data: bytes, offset: int, length: int
    ) -> nlmsg:
        """Parse as pyroute2 does, and mark an answer that carries an errno as an error."""
        message = super().parse_one_message(key, flags, sequence_number, data, offset, length)
        (kind,) = struct.unpack_from("H", data, offset + 4)
        if kind in (NLMSG_ERROR, NLMSG_DONE) and length >= 20:
            (number,) = struct.unpack_from("i", data, offset + 16)
            if number < 0:
                message["header"]["error"] = NetlinkError(-number, os.strerror(-number))
        return message


class CheckedDiagSocket(DiagSocket):  # type: ignore[misc]  # the library has no types
    """A sock_diag(7) socket of the network namespace in which it is made; raises NetlinkError."""

    def __init__(self) -> None:
        super().__init__()
        self.set_marshal(CheckedMarshal())
        self.bind()


class Network:
    """One bridge in a network namespace of its own, and the hosts that hang on it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._own = self._stack_descriptor("/proc/self/ns/net")
        self._hosts: dict[str, int] = {}
        self._diagnostics: dict[str, DiagSocket] = {}
        self._routes = stack.enter_context(IPRoute())
        self._bridge: int = self._add_bridge()

    def wire(self, host: str, pid: int, addresses: Sequence[tuple[str, int]]) -> None:
        """Join the network namespace of process `pid` to the bridge, with these addresses.

        Raises OSError with the kernel's errno.
        """
        self._hosts[host] = self._stack_descriptor(f"/proc/{pid}/ns/net")
        with converted():
            self._routes.link(
                "add",
                ifname=f"host{len(self._hosts)}",
                kind="veth",
                master=self._bridge,
                state="up",
                peer={"ifname": LINK, "net_ns_fd": self._hosts[host]},
            )
        with self._inside(host), converted(), IPRoute() as routes:
            routes.link("set", index=socket.if_nametoindex("lo"), state="up")
            index = socket.if_nametoindex(LINK)
            for address, prefix in addresses:
                # Without NODAD an IPv6 address cannot be bound for its first seconds.
                routes.addr(
                    "add", index=index, address=address, prefixlen=prefix, flags=IFA_F_NODAD
                )
            routes.link("set", index=index, state="up")

    def sockets(self, host: str) -> list[Json]:
        """Every TCP and UDP socket of a host, IPv4 first.

        Each is [protocol, state, local, peer, uid, inode, receive queue, send queue].
        """
        return [
            row(name, message)
            for name, protocol in PROTOCOLS.items()
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in self._dump(host, family, protocol)
        ]

    def _dump(self, host: str, family: int, protocol: int) -> Sequence[Mapping[str, object]]:
        if host not in self._diagnostics:
            with self._inside(host):
                self._diagnostics[host] = self._stack.enter_context(CheckedDiagSocket())
        with converted():
            dump: Sequence[Mapping[str, object]] = self._diagnostics[host].get_sock_stats(
                family=family, protocol=protocol, states=ALL_STATES
            )
            return dump

    def _add_bridge(self) -> int:
        with converted():
            self._routes.link("add", ifname=BRIDGE, kind="bridge", state="up")
            return socket.if_nametoindex(BRIDGE)

    def _stack_descriptor(self, path: str) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._stack.callback(os.close, descriptor)
        return descriptor

    @contextlib.contextmanager
    def _inside(self, host: str) -> Iterator[None]:
        """Be in a host's network namespace: what is opened there stays there (socket(2))."""
        setns(self._hosts[host], CLONE_NEWNET)
        try:
            yield
        finally:
            setns(self._own, CLONE_NEWNET)


@contextlib.contextmanager
def converted() -> Iterator[None]:
    """Raise pyroute2's errors as OSError."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def row(protocol: str, message: Mapping[str, object]) -> list[Json]:
    """One socket of a dump (struct inet_diag_msg), as JSON."""
    return [
        protocol,
        STATES[int(str(message["idiag_state"]))],
        [str(message["idiag_src"]), int(str(message["idiag_sport"]))],
        [str(message["idiag_dst"]), int(str(message["idiag_dport"]))],
        int(str(message["idiag_uid"])),
        int(str(message["idiag_inode"])),
        int(str(message["idiag_rqueue"])),
        int(str(message["idiag_wqueue"])),
    ]


@contextlib.contextmanager
def open_network() -> Iterator[Network]:
    """A network in the network namespace in which this process is; raises OSError."""
    with contextlib.ExitStack() as stack:
        yield Network(stack)
