"""What the kernel says over netlink(7) of this network namespace: sockets, addresses, routes.

Requests that ask, and none that changes anything.
"""

from __future__ import annotations

import itertools
import socket
import struct
from typing import TYPE_CHECKING

from labs.engine.port.sight import Row
from labs.engine.rules.sockets import IPV4, IPV6, TCP, UDP, parse_address
from labs.engine.warm_parent import (
    DIAG_MESSAGE,
    NETLINK_HEADER,
    NETLINK_SOCK_DIAG,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    STATES,
    TIMERS,
    dump_sockets,
    read_answers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from labs.engine.rules.sockets import Address, Family, Protocol

# include/uapi/linux/inet_diag.h
INTERFACE = struct.Struct("=40xL")  # idiag_if, behind state, timer, ports and addresses
INET_DIAG_SKV6ONLY = 11
INET_DIAG_CGROUP_ID = 21

# include/uapi/linux/rtnetlink.h, if_addr.h
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
IFADDRMSG = struct.Struct("=BBBBL")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBL")  # family, two lengths, tos, table, protocol, scope, type, flags
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_OPTIMISTIC = 0x08, 0x40, 0x04
RTA_DST = 1
RTN_LOCAL, RTN_BROADCAST = 2, 3
ATTRIBUTE = struct.Struct("=HH")

FAMILIES: Mapping[Family, int] = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
PROTOCOLS: Mapping[Protocol, int] = {TCP: socket.IPPROTO_TCP, UDP: socket.IPPROTO_UDP}


def read_rows(protocol: Protocol, port: int) -> tuple[Row, ...]:
    """The sockets of this network namespace on a local port; OSError where netlink is refused."""
    devices = dict(socket.if_nameindex())
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        return tuple(
            row
            for family in FAMILIES
            for message in dump_sockets(netlink, FAMILIES[family], PROTOCOLS[protocol], port)
            if (row := read_row(protocol, family, message, devices)).local[1] == port
        )


def read_row(protocol: Protocol, family: Family, message: bytes, devices: Mapping[int, str]) -> Row:
    """A struct inet_diag_msg, and the attributes behind it."""
    _, state, timer, local_port, peer_port, local, peer, expires, _, _, uid, inode = (
        DIAG_MESSAGE.unpack_from(message)
    )
    (interface,) = INTERFACE.unpack_from(message)
    attributes = dict(split_attributes(message[DIAG_MESSAGE.size :]))
    size = 4 if family is IPV4 else 16

    def address(host: bytes, port: bytes) -> tuple[str, int]:
        text = socket.inet_ntop(FAMILIES[family], host[:size])
        return text, int.from_bytes(port, "big")

    v6only = attributes.get(INET_DIAG_SKV6ONLY)
    return Row(
        protocol,
        family,
        STATES[state - 1],
        address(local, local_port),
        address(peer, peer_port),
        uid,
        inode,
        devices.get(interface, str(interface)) if interface else "",
        None if v6only is None else bool(v6only[0]),
        TIMERS[min(timer, len(TIMERS) - 1)],
        expires if timer else 0,
        int.from_bytes(attributes.get(INET_DIAG_CGROUP_ID, b""), "little"),
    )


def split_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message by their types (struct nlattr)."""
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[offset + ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3


def read_addresses() -> frozenset[Address]:
    """The addresses of this network namespace that a socket can be bound to; raises OSError."""
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        request = IFADDRMSG.pack(family, 0, 0, 0, 0)
        for message in ask(RTM_GETADDR, NLM_F_DUMP, request, RTM_NEWADDR):
            _, _, flags, _, _ = IFADDRMSG.unpack_from(message)
            attributes = dict(split_attributes(message[IFADDRMSG.size :]))
            flags = int.from_bytes(attributes.get(IFA_FLAGS, bytes([flags])), "little")
            # One that another host may have as well is none yet (ipv6_chk_addr()).
            is_tried = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
            if is_tried or flags & IFA_F_DADFAILED:
                continue
            address = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]
            found.add(parse_address(socket.inet_ntop(family, address)))
    return frozenset(found)


def is_bindable_route(address: Address) -> bool:
    """Whether the routes let an IPv4 address be bound: as this host's own, or as a broadcast.

    inet_addr_valid_or_nonlocal() asks them so.
    """
    packed = address.number.to_bytes(4, "big")
    request = RTMSG.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    request += ATTRIBUTE.pack(ATTRIBUTE.size + len(packed), RTA_DST) + packed
    try:
        messages = [*ask(RTM_GETROUTE, 0, request, RTM_NEWROUTE)]
    except OSError:  # no route at all
        return False
    return any(RTMSG.unpack_from(message)[7] in (RTN_LOCAL, RTN_BROADCAST) for message in messages)


def ask(kind: int, flags: int, content: bytes, expected: int) -> Iterator[bytes]:
    """The messages of this kind with which rtnetlink(7) answers; raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        length = NETLINK_HEADER.size + len(content)
        netlink.send(NETLINK_HEADER.pack(length, kind, NLM_F_REQUEST | flags, 0, 0) + content)
        answers = read_answers(netlink, expected)
        yield from answers if flags & NLM_F_DUMP else itertools.islice(answers, 1)
