"""The rules of the calls beside bind(), each of which may be refused for what its socket is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.rules.calls import (
    CHOWN,
    NET_RAW,
    Accept,
    Chown,
    Connect,
    Listen,
    Option,
    SetOption,
)
from labs.engine.rules.rule import CallCheck
from labs.engine.rules.sockets import (
    CLOSE,
    CONNECTED,
    IPV4,
    IPV6,
    LISTEN,
    NO_PORT,
    TCP,
    UDP,
    parse_address,
)

if TYPE_CHECKING:
    from labs.engine.rules.calls import Call
    from labs.engine.rules.world import World


REACHED = (LISTEN, CONNECTED)
"""The states in which packets find a TCP socket."""


def is_given_by_anyone(call: Call, world: World) -> bool:
    """Whether a user without the capability gives a socket away, or takes it."""
    if not isinstance(call, Chown) or CHOWN in call.user.capabilities:
        return False
    return not call.user.uid == world.sockets[call.socket].owner == call.uid


def is_udp(call: Call, world: World) -> bool:
    """Whether a UDP socket is to listen."""
    return isinstance(call, Listen) and world.sockets[call.socket].protocol is UDP


def is_connected(call: Call, world: World) -> bool:
    """Whether a socket is to listen that is connected."""
    return isinstance(call, Listen) and world.sockets[call.socket].state not in (CLOSE, LISTEN)


def is_ipv4(call: Call, world: World) -> bool:
    """Whether an option of IPv6 is set on an IPv4 socket."""
    return is_v6only(call) and world.sockets[call.socket].family is IPV4


def is_late(call: Call, world: World) -> bool:
    """Whether IPV6_V6ONLY is set on a socket that is bound."""
    return is_v6only(call) and world.sockets[call.socket].port != NO_PORT


def is_v6only(call: Call) -> bool:
    """Whether a call sets IPV6_V6ONLY."""
    return isinstance(call, SetOption) and call.option is Option.V6ONLY


def is_no_device(call: Call, world: World) -> bool:
    """Whether a socket is to be bound to a device that is not there."""
    if not isinstance(call, SetOption) or call.option is not Option.DEVICE or not call.value:
        return False
    return call.value not in world.hosts[world.sockets[call.socket].namespace].devices


def has_device(call: Call, world: World) -> bool:
    """Whether a socket is to be bound to another device, or to none, by who may not."""
    if not isinstance(call, SetOption) or call.option is not Option.DEVICE:
        return False
    return bool(world.sockets[call.socket].device) and NET_RAW not in call.user.capabilities


def is_groupless(call: Call, world: World) -> bool:
    """Whether a program is attached to a socket without SO_REUSEPORT."""
    if not isinstance(call, SetOption) or call.option is not Option.PROGRAM:
        return False
    socket = world.sockets[call.socket]
    is_reached = socket.port != NO_PORT if socket.protocol is UDP else socket.state in REACHED
    if is_reached:
        return not socket.prepared
    return not (socket.reuseport or (socket.prepared and not world.rulebook.keeps_closed))


def is_not_heard(call: Call, world: World) -> bool:
    """Whether a TCP socket connects to where nobody listens."""
    if not isinstance(call, Connect) or world.sockets[call.socket].protocol is not TCP:
        return False
    return world.find_listener(call) is None


def is_connected_twice(call: Call, world: World) -> bool:
    """Whether a TCP socket is to connect that listens, or is or was connected."""
    if not isinstance(call, Connect):
        return False
    socket = world.sockets[call.socket]
    return socket.protocol is TCP and socket.state is not CLOSE


def is_mapped_from_v6only(call: Call, world: World) -> bool:
    """Whether a socket for IPv6 alone is to connect to a mapped address."""
    if not isinstance(call, Connect):
        return False
    socket = world.sockets[call.socket]
    return socket.v6only and socket.family is IPV6 and parse_address(call.address).is_ipv4


def is_accepted_by_udp(call: Call, world: World) -> bool:
    """Whether a UDP socket is to accept a connection."""
    return isinstance(call, Accept) and world.sockets[call.socket].protocol is UDP


def is_no_listener(call: Call, world: World) -> bool:
    """Whether a socket is to accept a connection that does not listen."""
    return isinstance(call, Accept) and world.sockets[call.socket].state is not LISTEN


def is_not_waited_for(call: Call, world: World) -> bool:
    """Whether a connection is to be accepted that does not wait."""
    if not isinstance(call, Accept):
        return False
    child = world.sockets.get(call.child)
    return child is None or child.listener != call.socket


NO_LISTENER = CallCheck(
    "no-listener",
    "tcp_v4_rcv(), tcp_v6_rcv()",
    "Nobody listens there.",
    errno="ECONNREFUSED",
    refuses=is_not_heard,
)
CALL_CHECKS = (
    CallCheck(
        "not-owner",
        "setattr_prepare()",
        "Only who has CAP_CHOWN may give a socket to another user.",
        errno="EPERM",
        refuses=is_given_by_anyone,
    ),
    CallCheck(
        "not-tcp",
        "sock_no_listen()",
        "Only a TCP socket can listen.",
        errno="EOPNOTSUPP",
        refuses=is_udp,
    ),
    CallCheck(
        "connected-already",
        "inet_listen()",
        "A socket that is connected cannot listen.",
        errno="EINVAL",
        refuses=is_connected,
    ),
    CallCheck(
        "not-ipv6",
        "ip_setsockopt()",
        "An IPv4 socket has no options of IPv6.",
        errno="ENOPROTOOPT",
        refuses=is_ipv4,
    ),
    CallCheck(
        "too-late",
        "ipv6_setsockopt()",
        "A socket that is bound stays with the addresses that it has: IPV6_V6ONLY comes before.",
        errno="EINVAL",
        refuses=is_late,
    ),
    CallCheck(
        "no-device",
        "sock_setbindtodevice()",
        "There is no device of this name here.",
        errno="ENODEV",
        refuses=is_no_device,
    ),
    CallCheck(
        "device-kept",
        "sock_bindtoindex()",
        "Only who has CAP_NET_RAW may take a socket off its device.",
        errno="EPERM",
        refuses=has_device,
    ),
    CallCheck(
        "no-group",
        "reuseport_attach_prog()",
        "A program is for a group: the socket needs SO_REUSEPORT before it.",
        errno="EINVAL",
        refuses=is_groupless,
    ),
    CallCheck(
        "connected-once",
        "__inet_stream_connect()",
        "A TCP socket that listens, is connected or was reset cannot connect.",
        errno="EISCONN",
        refuses=is_connected_twice,
    ),
    CallCheck(
        "mapped-from-v6only",
        "tcp_v6_connect(), __ip6_datagram_connect()",
        "A socket for IPv6 alone reaches no IPv4 address, mapped or not.",
        errno="ENETUNREACH",
        refuses=is_mapped_from_v6only,
    ),
    NO_LISTENER,
    CallCheck(
        "no-stream",
        "sock_no_accept()",
        "Only a TCP socket has connections to accept.",
        errno="EOPNOTSUPP",
        refuses=is_accepted_by_udp,
    ),
    CallCheck(
        "not-listening",
        "inet_csk_accept()",
        "Only a listener has connections to accept.",
        errno="EINVAL",
        refuses=is_no_listener,
    ),
    CallCheck(
        "no-connection",
        "inet_csk_accept()",
        "No connection waits to be accepted.",
        errno="EAGAIN",
        refuses=is_not_waited_for,
    ),
)
