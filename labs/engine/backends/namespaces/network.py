"""Wires a run's hosts to one bridge: the adapter of pyroute2, which encodes rtnetlink(7)."""

# pyroute2 has no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING

# The package's own __init__ imports all that pyroute2 has, its IPRoute asyncio, and every run waits
# for that; so the package is there without its __init__, and its messages alone are taken.
if "pyroute2" not in sys.modules and (found := importlib.util.find_spec("pyroute2")):
    sys.modules["pyroute2"] = type(sys)("pyroute2")
    sys.modules["pyroute2"].__path__ = found.submodule_search_locations or []

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, nla, nlmsg
from pyroute2.netlink.rtnl import RTM_NEWADDR, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, ifaddrmsg

from labs.engine.system import CLONE_NEWNET, setns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BRIDGE = "bindlab"
LINK = "eth0"
IFF_UP = 0x1
NEW = NLM_F_CREATE | NLM_F_EXCL
ANSWER = struct.Struct("=16x i")  # struct nlmsghdr, then the error of a struct nlmsgerr
ROUTES = (socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

# struct ifinfomsg
INTERFACE = (("family_and_type", "I"), ("index", "i"), ("flags", "I"), ("change", "I"))
IFNAME = (3, "IFLA_IFNAME", "asciiz")


# pyroute2's own ifinfmsg knows every kind of link: its import takes longer than all others here.
class Peer(nla):
    """The other end of a veth pair."""

    fields = INTERFACE
    nla_map = (IFNAME, (28, "IFLA_NET_NS_FD", "uint32"))


class Pair(nla):
    """What is to be said of a veth pair alone."""

    peer = Peer
    nla_map = ((1, "VETH_INFO_PEER", "peer"),)


class Information(nla):
    """The kind of a link."""

    pair = Pair
    nla_map = ((1, "IFLA_INFO_KIND", "asciiz"), (2, "IFLA_INFO_DATA", "pair"))


class Link(nlmsg):
    """A link: a struct ifinfomsg and what follows it."""

    information = Information
    fields = INTERFACE
    nla_map = (IFNAME, (10, "IFLA_MASTER", "uint32"), (18, "IFLA_LINKINFO", "information"))


class Network:
    """A bridge in the network namespace of this process, to which hosts can be joined."""

    def __init__(self, routes: socket.socket, own_namespace: int) -> None:
        self._routes = routes
        self._own_namespace = own_namespace
        self._count = 0
        request(routes, link_up(IFLA_IFNAME=BRIDGE, IFLA_LINKINFO=nested(IFLA_INFO_KIND="bridge")))
        self._bridge = socket.if_nametoindex(BRIDGE)

    def join(self, pid: int, addresses: Sequence[tuple[str, int]]) -> None:
        """Give the network namespace of process `pid` a link to the bridge with these addresses.

        Raises OSError with the kernel's errno.
        """
        self._count += 1
        name = f"host{self._count}"
        with open(f"/proc/{pid}/ns/net", "rb", buffering=0) as file:
            pair = nested(VETH_INFO_PEER=nested(IFLA_IFNAME=LINK, IFLA_NET_NS_FD=file.fileno()))
            veth = nested(IFLA_INFO_KIND="veth", IFLA_INFO_DATA=pair)
            end = link_up(IFLA_IFNAME=name, IFLA_MASTER=self._bridge, IFLA_LINKINFO=veth)
            request(self._routes, end)
            setns(file.fileno(), CLONE_NEWNET)
            try:
                configure(addresses)
            finally:
                setns(self._own_namespace, CLONE_NEWNET)


def configure(addresses: Sequence[tuple[str, int]]) -> None:
    """Bring up LINK in the network namespace in which this process is."""
    index = socket.if_nametoindex(LINK)
    new = [new_address(index, address, prefix) for address, prefix in addresses]
    with socket.socket(*ROUTES) as routes:
        request(routes, *new, link_up(index))


def nested(**attributes: object) -> dict[str, object]:
    """Attributes as pyroute2 takes them."""
    return {"attrs": [*attributes.items()]}


def link_up(index: int = 0, **attributes: object) -> bytes:
    """The request to bring up the link with this index, or a new one."""
    fields = {"index": index, "flags": IFF_UP, "change": IFF_UP}
    return encoded(Link(), RTM_NEWLINK, 0 if index else NEW, fields | nested(**attributes))


def new_address(index: int, address: str, prefix: int) -> bytes:
    """The request to give a link an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Without NODAD an IPv6 address cannot be bound for its first seconds.
    fields = {"family": family, "prefixlen": prefix, "flags": IFA_F_NODAD, "index": index}
    return encoded(ifaddrmsg(), RTM_NEWADDR, NEW, fields | nested(IFA_LOCAL=address))


def encoded(message: nlmsg, kind: int, flags: int, content: dict[str, object]) -> bytes:
    """A request as the kernel reads it."""
    message["header"] = {"type": kind, "flags": NLM_F_REQUEST | NLM_F_ACK | flags}
    message.update(content)
    message.encode()
    return bytes(message.data)


def request(routes: socket.socket, *messages: bytes) -> None:
    """Send requests at once, read the answers; OSError for the first that the kernel refused."""
    routes.send(b"".join(messages))
    for (error,) in [ANSWER.unpack_from(routes.recv(ANSWER.size)) for _ in messages]:
        if error:
            raise OSError(-error, os.strerror(-error))


@contextlib.contextmanager
def open_network() -> Iterator[Network]:
    """The network of a run, in the network namespace in which this process is; raises OSError."""
    with open("/proc/self/ns/net", "rb", buffering=0) as file, socket.socket(*ROUTES) as routes:
        yield Network(routes, file.fileno())
