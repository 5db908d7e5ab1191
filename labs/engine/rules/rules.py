"""The rules of bind() on Linux, and of listen(), which asks for the port once more.

There are three kinds, in the order in which the kernel comes to them: what is refused before the
port is looked at (`Check`), what lets a socket in for what the port's bucket remembers (`Recall`),
and what lets two sockets share (`Share`). Where nothing lets them, TAKEN is the rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.rules.bucket import belongs, meet
from labs.engine.rules.calls import BIND_SERVICE
from labs.engine.rules.rule import Check, Recall, Rule, Share
from labs.engine.rules.sockets import (
    ANY_IPV4,
    CLOSE,
    IPV6,
    LISTEN,
    NO_PORT,
    ONE_IPV6,
    RESET,
    TIME_WAIT,
)

if TYPE_CHECKING:
    from labs.engine.rules.bucket import Bucket
    from labs.engine.rules.rule import Request
    from labs.engine.rules.sockets import Socket

# --- before the port is looked at ---------------------------------------------------------


def is_not_here(request: Request) -> bool:
    """Whether the address is none of the host's, or ::1 of a socket on a device that is not lo."""
    is_elsewhere = request.address == ONE_IPV6 and request.socket.device not in ("", "lo")
    return is_elsewhere or not request.host.has(request.address)


def is_privileged(request: Request) -> bool:
    """Whether the port takes a capability that the caller does not have."""
    return (
        0 < request.port < request.host.unprivileged_port_start
        and BIND_SERVICE not in request.user.capabilities
    )


def is_bound(request: Request) -> bool:
    """Whether the socket has a port already."""
    return request.socket.port != NO_PORT or request.socket.state not in (CLOSE, RESET)


def is_mapped_on_v6only(request: Request) -> bool:
    """Whether a socket for IPv6 alone asks for an IPv4 address."""
    return request.address.is_ipv4 and request.socket.v6only


ADDRESS_NOT_HERE = Check(
    "address-not-here",
    "inet_addr_valid_or_nonlocal(), ipv6_chk_addr()",
    "The address is none of this host's.",
    errno="EADDRNOTAVAIL",
    refuses=is_not_here,
)
PRIVILEGED_PORT = Check(
    "privileged-port",
    "inet_port_requires_bind_service()",
    "Ports below ip_unprivileged_port_start are for those with CAP_NET_BIND_SERVICE alone.",
    errno="EACCES",
    refuses=is_privileged,
)
BOUND_ALREADY = Check(
    "bound-already",
    "__inet_bind(), __inet6_bind()",
    "A socket is bound once: it has a port already.",
    errno="EINVAL",
    refuses=is_bound,
)
MAPPED_ON_V6ONLY = Check(
    "mapped-on-v6only",
    "__inet6_bind()",
    "A socket with IPV6_V6ONLY takes no IPv4 address, mapped or not.",
    errno="EINVAL",
    refuses=is_mapped_on_v6only,
)

# --- what a bucket remembers --------------------------------------------------------------


def had_reuseaddr(bucket: Bucket, socket: Socket, is_listening: bool) -> bool:
    """Whether all of the bucket had SO_REUSEADDR as they came, and this one has it too."""
    return bucket.reuseaddr and socket.reuseaddr and not is_listening


def had_reuseport(bucket: Bucket, socket: Socket, _is_listening: bool) -> bool:
    """Whether this one is of the user whom the bucket remembers for SO_REUSEPORT."""
    return belongs(bucket.group, socket)


REMEMBERED_REUSEADDR = Recall(
    "remembered-reuseaddr",
    "inet_csk_get_port(), fastreuse",
    "All who are on the port had SO_REUSEADDR when they were bound, and none has listened since; "
    "what they have now is not looked at.",
    until=(6, 8),
    admits=had_reuseaddr,
)
REMEMBERED_REUSEPORT = Recall(
    "remembered-reuseport",
    "sk_reuseport_match(), fastreuseport",
    "The port remembers a socket of the same owner that had SO_REUSEPORT when it was bound or "
    "began to listen; what it has now, and who has it now, is not looked at.",
    admits=had_reuseport,
)

# --- two sockets on one port --------------------------------------------------------------


def are_apart(mine: Socket, theirs: Socket) -> bool:
    """Whether they have no address in common."""
    return not meet(mine, theirs)


def are_on_other_devices(mine: Socket, theirs: Socket) -> bool:
    """Whether each is bound to a device, and not to the same."""
    return bool(mine.device and theirs.device and mine.device != theirs.device)


def both_reuseaddr(mine: Socket, theirs: Socket) -> bool:
    """Whether both have SO_REUSEADDR, and the one that is there does not listen."""
    return mine.reuseaddr and theirs.reuseaddr and theirs.state is not LISTEN


def both_reuseport(mine: Socket, theirs: Socket) -> bool:
    """Whether both have SO_REUSEPORT and one owner."""
    return (
        mine.reuseport
        and theirs.reuseport
        and not mine.prepared
        and mine.owner == theirs.owner
        and theirs.state is not TIME_WAIT
    )


def is_unseen_wildcard(mine: Socket, theirs: Socket) -> bool:
    """Whether one is in the port's entry for ::ffff:0.0.0.0, and the other on such an address."""
    one, other = mine.address, theirs.address
    assert one is not None and other is not None
    is_hidden = other == ANY_IPV4 and theirs.is_mapped
    return mine.family is IPV6 and one.is_ipv4 and one.number != 0 and is_hidden


def reuseport_after_end(mine: Socket, theirs: Socket) -> bool:
    """Whether both have SO_REUSEPORT, and the one that is there is the rest of a connection."""
    return mine.reuseport and theirs.reuseport and not mine.prepared and theirs.state is TIME_WAIT


OTHER_ADDRESS = Share(
    "other-address",
    "inet_rcv_saddr_equal()",
    "They have no address in common: 0.0.0.0 is all of IPv4, :: is all of IPv6 and, without "
    "IPV6_V6ONLY, of IPv4.",
    admits=are_apart,
)
OTHER_DEVICE = Share(
    "other-device",
    "inet_bind_conflict(), udp_lib_lport_inuse()",
    "Each is bound to a device, and not to the same one.",
    admits=are_on_other_devices,
)
UNSEEN_WILDCARD = Share(
    "unseen-wildcard",
    "inet_bind2_bucket_match_addr_any()",
    "A mapped IPv4 address does not see who is on ::ffff:0.0.0.0, though that is all of IPv4, nor "
    "who joined it on 0.0.0.0: a fault of these kernels.",
    since=(6, 1),
    until=(6, 8),
    admits=is_unseen_wildcard,
)
BOTH_REUSEADDR = Share(
    "both-reuseaddr",
    "inet_bind_conflict(), udp_lib_lport_inuse()",
    "Both have SO_REUSEADDR and the one that is there does not listen; nobody asks who owns them.",
    admits=both_reuseaddr,
)
BOTH_REUSEPORT = Share(
    "both-reuseport",
    "inet_bind_conflict()",
    "Both have SO_REUSEPORT and the same owner: the user as whom each socket was made, or to whom "
    "it was given since.",
    admits=both_reuseport,
)
GROUP_FOUND = Share(
    "group-found",
    "udp_lib_lport_inuse()",
    "Both have SO_REUSEPORT and the same owner; the kernel looks at no other socket once it has "
    "found such a one.",
    admits=both_reuseport,
    is_final=True,
)
REUSEPORT_AFTER_END = Share(
    "reuseport-after-end",
    "inet_bind_conflict()",
    "Both have SO_REUSEPORT and the one that is there is the rest of a connection (TIME_WAIT), "
    "which has no owner.",
    admits=reuseport_after_end,
)

TAKEN = Rule(
    "taken",
    "inet_csk_bind_conflict(), udp_lib_lport_inuse()",
    "The port is taken there, and no rule lets the two share it.",
)
FREE = Rule("free", "inet_csk_get_port(), udp_lib_get_port()", "Nobody is on the port.")
SOME_PORT_FREE = Rule(
    "some-port",
    "inet_csk_find_open_port(), udp_lib_get_port()",
    "Port 0 is any port that is free.",
)
PLAIN = Rule("plain", "__sys_socket() and others", "The rules have nothing against it.")

IPV4_CHECKS = (ADDRESS_NOT_HERE, PRIVILEGED_PORT, BOUND_ALREADY)
IPV6_CHECKS = (PRIVILEGED_PORT, BOUND_ALREADY, MAPPED_ON_V6ONLY, ADDRESS_NOT_HERE)
RECALLS = (REMEMBERED_REUSEADDR, REMEMBERED_REUSEPORT)
TCP_SHARES = (
    *(OTHER_ADDRESS, UNSEEN_WILDCARD, OTHER_DEVICE),
    *(BOTH_REUSEADDR, BOTH_REUSEPORT, REUSEPORT_AFTER_END),
)
UDP_SHARES = (OTHER_ADDRESS, OTHER_DEVICE, BOTH_REUSEADDR, GROUP_FOUND)
