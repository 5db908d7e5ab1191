"""The model: what each call is answered, and what there is after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.rules.bucket import EMPTY, enter
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
    IPV4,
    LISTEN,
    NO_PORT,
    NOBODY,
    SOME_PORT,
    TCP,
    TIME_WAIT,
    UDP,
    Socket,
    State,
    parse_address,
)
from labs.engine.rules.world import OK, Answer, World, place_of, take

if TYPE_CHECKING:
    from labs.engine.rules.calls import Call


def carry_out(world: World, call: Call) -> tuple[Answer, World]:
    """What a call is answered, and the world after it.

    KeyError for a socket that there is not, ValueError for an address or a value that is none.
    """
    for check in world.rulebook.call_checks:
        if check.refuses(call, world):
            return Answer(check.errno, check), world
    return perform(world, call)


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
            return OK, end(world, world.sockets[name].peer)


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
            return socket._replace(device=device)
        case Option.PROGRAM, True:
            return socket._replace(prepared=True)
    raise ValueError(f"{call.option} cannot be {call.value}")


def bind(world: World, call: Bind) -> tuple[Answer, World]:
    """bind()."""
    answer = world.answer_bind(call)
    if answer.errno:
        return answer, world
    port = call.port or SOME_PORT
    socket = take(world.sockets[call.socket], parse_address(call.address), port)
    return answer, world.settled(socket)


def listen(world: World, socket: Socket) -> tuple[Answer, World]:
    """listen(), which asks for the port once more."""
    if socket.state is LISTEN:
        return OK, world
    if socket.port == NO_PORT:
        wildcard = ANY_IPV4 if socket.family is IPV4 else ANY_IPV6
        socket = socket._replace(address=wildcard, port=SOME_PORT)
    listening = socket._replace(state=LISTEN)
    if socket.port == SOME_PORT:
        return Answer("", SOME_PORT_FREE), world.with_socket(listening)
    answer = world.answer_claim(socket, is_listening=True)
    if answer.errno:
        return answer, world
    return answer, world.settled(listening, is_listening=True)


def connect(world: World, call: Connect) -> World:
    """connect(); over TCP the other end waits at the listener, until accept()."""
    socket = world.sockets[call.socket]
    there = parse_address(call.address)
    port = SOME_PORT if socket.port == NO_PORT else socket.port
    if socket.address is None or socket.address.number == 0:
        socket = socket._replace(address=there, port=port)
    connected = socket._replace(state=State.CONNECTED, peer=call.child)
    listener = None if socket.protocol is UDP else world.find_listener(call)
    world = world.with_socket(connected)
    if listener is None:
        return world
    child = listener._replace(
        name=call.child,
        address=there,
        owner=owner_of_orphan(world, listener),
        state=State.CONNECTED,
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
                world = world.without(other.name)
    peer = world.sockets.get(socket.peer)
    if socket.protocol is TCP and peer and peer.state is State.CONNECTED:
        orphan = socket._replace(state=State.FIN_WAIT1, owner=owner_of_orphan(world, socket))
        return world.with_socket(orphan)
    return end(world, socket.peer).without(name)


def end(world: World, name: str) -> World:
    """The world after the other end of a connection has acknowledged that this one is closed."""
    socket = world.sockets.get(name)
    if socket is None or socket.state is not State.FIN_WAIT1:
        return world
    return world.with_socket(socket._replace(state=TIME_WAIT))


def owner_of_orphan(world: World, socket: Socket) -> int:
    """Whose a connection is that no process has."""
    return socket.owner if world.rulebook.keeps_owner else NOBODY
