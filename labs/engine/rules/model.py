"""The model: what each call is answered, and what there is after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.rules.bucket import EMPTY, enter
from labs.engine.rules.call_rules import NO_LISTENER
from labs.engine.rules.calls import (
    Accept,
    Acknowledge,
    Bind,
    Chown,
    Close,
    Connect,
    Listen,
    Open,
    Option,
    SetOption,
)
from labs.engine.rules.rules import SOME_PORT_FREE
from labs.engine.rules.sockets import (
    ANY_IPV4,
    ANY_IPV6,
    CONNECTED,
    FIN_WAIT1,
    IPV4,
    IPV6,
    LISTEN,
    NO_PORT,
    NOBODY,
    RESET,
    SOME_PORT,
    TCP,
    TIME_WAIT,
    UDP,
    Socket,
    parse_address,
)
from labs.engine.rules.world import OK, Answer, World, place_of, take

if TYPE_CHECKING:
    from labs.engine.rules.calls import Call
    from labs.engine.rules.rule import CallCheck


def carry_out(world: World, call: Call) -> tuple[Answer, World]:
    """What a call is answered, and the world after it.

    KeyError for a socket that there is not, ValueError for an address or a value that is none.
    """
    for check in world.rulebook.call_checks:
        if check.refuses(call, world):
            return Answer(check.errno, check), after_refusal(world, call, check)
    return perform(world, call)


def after_refusal(world: World, call: Call, check: CallCheck) -> World:
    """The world after a call that a check refused: connect() may have an effect all the same."""
    if not isinstance(call, Connect):
        return world
    socket = world.sockets[call.socket]
    if check.errno == NO_LISTENER.errno:
        if socket.family is IPV6 and socket.address == ANY_IPV4:
            # It counts as an address that was asked for (SOCK_BINDADDR_LOCK), and is not restored.
            socket = socket._replace(address=parse_address(call.address))
        return world.with_socket(failed(world, socket))
    return grouped(world, with_some_port(socket)) if socket.protocol is UDP else world


def with_some_port(socket: Socket) -> Socket:
    """A socket that needs a port, and takes any if it has none (inet_autobind())."""
    if socket.port != NO_PORT:
        return socket
    wildcard = ANY_IPV4 if socket.family is IPV4 else ANY_IPV6
    return socket._replace(address=socket.address or wildcard, port=SOME_PORT)


def failed(world: World, socket: Socket) -> Socket:
    """A socket after its connection has failed: it keeps the port that it has by its number."""
    return socket._replace(
        port=NO_PORT if socket.port == SOME_PORT else socket.port,
        prepared=socket.prepared and world.rulebook.keeps_closed,
    )


def perform(world: World, call: Call) -> tuple[Answer, World]:
    """What a call is answered against which no check has anything, and the world after it."""
    match call:
        case Open(user, name, protocol, family):
            return OK, world.with_socket(Socket(name, protocol, family, user.uid, user.namespace))
        case SetOption():
            return OK, world.with_socket(with_option(world.sockets[call.socket], call))
        case Chown(_, name, uid):
            return OK, world.with_socket(world.sockets[name]._replace(owner=uid))
        case Bind():
            return bind(world, call)
        case Listen(_, name):
            return listen(world, world.sockets[name])
        case Connect():
            return OK, connect(world, call)
        case Accept(user, _, child):
            accepted = world.sockets[child]._replace(owner=user.uid, listener="")
            return OK, world.with_socket(accepted)
        case Close(_, name):
            return OK, close(world, name)
        case Acknowledge(_, name):
            return OK, acknowledge(world, name)


def with_option(socket: Socket, call: SetOption) -> Socket:
    """A socket after setsockopt(); ValueError for a value that the option cannot have."""
    match call.option, call.value:
        case Option.REUSEADDR, bool() as value:
            return socket._replace(reuseaddr=value)
        case Option.REUSEPORT, bool() as value:
            return socket._replace(reuseport=value)
        case Option.V6ONLY, bool() as value:
            return socket._replace(v6only=value)
        case Option.DEVICE, str(device):
            return moved(socket._replace(device=device))
        case Option.PROGRAM, True:
            return socket._replace(prepared=True)
    raise ValueError(f"{call.option} cannot be {call.value}")


def moved(socket: Socket) -> Socket:
    """A socket that packets find elsewhere: a UDP one leaves its group (udp_lib_rehash())."""
    if socket.protocol is TCP or socket.port == NO_PORT:
        return socket
    return socket._replace(prepared=False)


def bind(world: World, call: Bind) -> tuple[Answer, World]:
    """bind()."""
    answer = world.answer_bind(call)
    if answer.errno:
        return answer, world
    port = call.port or SOME_PORT
    socket = take(world.sockets[call.socket], parse_address(call.address), port)
    if socket.address == ANY_IPV4:
        socket = socket._replace(is_mapped=is_mapped(world, socket))
    world = world.settled(socket)
    return answer, world if socket.protocol is TCP else grouped(world, socket)


def is_mapped(world: World, socket: Socket) -> bool:
    """Whether the port's entry for all of IPv4 is one of IPv6 (struct inet_bind2_bucket).

    It is of the family of the one who made it, for as long as anybody is in it.
    """
    members = world.buckets.get(place_of(socket), EMPTY).members
    there = (world.sockets[name] for name in members)
    beside = next((one for one in there if one.address == ANY_IPV4), None)
    return beside.is_mapped if beside else socket.family is IPV6


def listen(world: World, socket: Socket) -> tuple[Answer, World]:
    """listen(), which asks for the port once more."""
    if socket.state is LISTEN:
        return OK, world
    socket = with_some_port(socket)
    listening = socket._replace(state=LISTEN)
    if socket.port == SOME_PORT:
        return Answer("", SOME_PORT_FREE), grouped(world, listening)
    answer = world.answer_claim(socket, is_listening=True)
    if answer.errno:
        return answer, world
    return answer, grouped(world.settled(listening, is_listening=True), listening)


def grouped(world: World, socket: Socket) -> World:
    """The world once packets find a socket: with SO_REUSEPORT, it is of a group from then on."""
    return world.with_socket(socket._replace(prepared=socket.prepared or socket.reuseport))


def connect(world: World, call: Connect) -> World:
    """connect(); over TCP the other end waits at the listener, until accept()."""
    there = parse_address(call.address)
    socket = with_some_port(world.sockets[call.socket])
    assert socket.address is not None
    if socket.address.number == 0:
        socket = moved(socket._replace(address=there))
    elif world.rulebook.hashes_connected:
        socket = moved(socket)
    connected = socket._replace(state=CONNECTED, peer=call.child)
    listener = None if socket.protocol is UDP else world.find_listener(call)
    world = world.with_socket(connected)
    if listener is None:
        return world
    child = listener._replace(
        name=call.child,
        address=there,
        owner=owner_of_orphan(world, listener),
        state=CONNECTED,
        prepared=False,
        peer=socket.name,
        listener=listener.name,
    )
    bucket = world.buckets.get(place_of(child), EMPTY)
    joined = bucket._replace(members=enter(bucket.members, child))
    return world.with_socket(child).with_bucket(child, joined)


def close(world: World, name: str) -> World:
    """close() of the last descriptor: who closes a connection first keeps its port a while."""
    socket = world.sockets[name]
    if socket.state is LISTEN:
        for other in [*world.sockets.values()]:
            if other.listener == name:
                world = reset(world, other.peer).without(other.name)
    peer = world.sockets.get(socket.peer)
    if socket.protocol is TCP and peer and peer.state is CONNECTED:
        orphan = socket._replace(state=FIN_WAIT1, owner=owner_of_orphan(world, socket))
        return world.with_socket(orphan)
    return end(world, socket.peer).without(name)


def reset(world: World, name: str) -> World:
    """The world after the other end of a connection was thrown away."""
    socket = world.sockets.get(name)
    if socket is None or socket.state is not CONNECTED:
        return world if socket is None else world.without(name)
    return world.with_socket(failed(world, socket)._replace(state=RESET))


def acknowledge(world: World, name: str) -> World:
    """The world after a socket, or all in a listener's queue, have acknowledged what has come."""
    for one in [*world.sockets.values()]:
        if name in (one.name, one.listener):
            world = end(world, one.peer)
    return world


def end(world: World, name: str) -> World:
    """The world after the other end of a connection has acknowledged that this one is closed."""
    socket = world.sockets.get(name)
    if socket is None or socket.state is not FIN_WAIT1:
        return world
    return world.with_socket(socket._replace(state=TIME_WAIT))


def owner_of_orphan(world: World, socket: Socket) -> int:
    """Whose a connection is that no process has."""
    return socket.owner if world.rulebook.keeps_owner else NOBODY
