"""The model: what each call is answered, and what there is after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.rules.bucket import EMPTY, enter, meet
from labs.engine.rules.calls import (
    CHOWN,
    Accept,
    Bind,
    Chown,
    Close,
    Connect,
    Listen,
    Open,
    Option,
    SetOption,
)
from labs.engine.rules.rules import (
    BOUND_ALREADY,
    NO_CONNECTION,
    NO_DEVICE,
    NO_LISTENER,
    NOT_BEFORE_REUSEPORT,
    NOT_IPV6,
    NOT_LISTENING,
    NOT_OWNER,
    NOT_TCP,
    SOME_PORT_FREE,
)
from labs.engine.rules.sockets import (
    ANY_IPV4,
    ANY_IPV6,
    NO_PORT,
    NOBODY,
    SOME_PORT,
    Family,
    Protocol,
    Socket,
    State,
    parse_address,
)
from labs.engine.rules.world import OK, Answer, World, place_of, take

if TYPE_CHECKING:
    from labs.engine.rules.calls import Call
    from labs.engine.rules.rules import Rule


def carry_out(world: World, call: Call) -> tuple[Answer, World]:
    """What a call is answered, and the world after it.

    KeyError for a socket that there is not, ValueError for an address that is none.
    """
    match call:
        case Open(user, name, protocol, family):
            socket = Socket(name, protocol, family, user.uid, user.namespace)
            return OK, world.with_socket(socket)
        case SetOption():
            return set_option(world, call)
        case Chown(user, name, uid):
            if CHOWN not in user.capabilities:
                return refuse("EPERM", NOT_OWNER), world
            return OK, world.with_socket(world.sockets[name]._replace(owner=uid))
        case Bind():
            return bind(world, call)
        case Listen():
            return listen(world, call)
        case Connect():
            return connect(world, call)
        case Accept(user, name, child):
            if child not in world.sockets or world.sockets[child].listener != name:
                return refuse("EAGAIN", NO_CONNECTION), world
            accepted = world.sockets[child]._replace(owner=user.uid, listener="")
            return OK, world.with_socket(accepted)
        case Close(_, name):
            return OK, close(world, name)


def refuse(errno: str, rule: Rule) -> Answer:
    """An answer with an errno."""
    return Answer(errno, rule)


def set_option(world: World, call: SetOption) -> tuple[Answer, World]:
    """setsockopt(); an option that a bound socket cannot change any more is refused."""
    socket = world.sockets[call.socket]
    match call.option, call.value:
        case Option.REUSEADDR, bool(value):
            socket = socket._replace(reuseaddr=value)
        case Option.REUSEPORT, bool(value):
            socket = socket._replace(reuseport=value)
        case Option.V6ONLY, bool(value):
            if socket.family is Family.IPV4:
                return refuse("ENOPROTOOPT", NOT_IPV6), world
            if socket.port != NO_PORT:
                return refuse("EINVAL", BOUND_ALREADY), world
            socket = socket._replace(v6only=value)
        case Option.DEVICE, str(device):
            if device not in world.hosts[socket.namespace].devices:
                return refuse("ENODEV", NO_DEVICE), world
            socket = socket._replace(device=device)
        case Option.PROGRAM, True:
            if not socket.reuseport:
                return refuse("EINVAL", NOT_BEFORE_REUSEPORT), world
            socket = socket._replace(prepared=True)
        case option, value:
            raise ValueError(f"{option} cannot be {value}")
    return OK, world.with_socket(socket)


def bind(world: World, call: Bind) -> tuple[Answer, World]:
    """bind()."""
    answer = world.answer_bind(call)
    if answer.errno:
        return answer, world
    port = call.port or SOME_PORT
    socket = take(world.sockets[call.socket], parse_address(call.address), port)
    return answer, world.settled(socket)


def listen(world: World, call: Listen) -> tuple[Answer, World]:
    """listen(), which asks for the port once more."""
    socket = world.sockets[call.socket]
    if socket.protocol is Protocol.UDP:
        return refuse("EOPNOTSUPP", NOT_TCP), world
    if socket.state is State.LISTEN:
        return OK, world
    if socket.state is not State.CLOSE:
        return refuse("EINVAL", NOT_LISTENING), world
    if socket.port == NO_PORT:
        wildcard = ANY_IPV4 if socket.family is Family.IPV4 else ANY_IPV6
        socket = socket._replace(address=wildcard, port=SOME_PORT)
    listening = socket._replace(state=State.LISTEN)
    if socket.port == SOME_PORT:
        return Answer("", SOME_PORT_FREE), world.with_socket(listening)
    answer = world.answer_claim(socket, is_listening=True)
    if answer.errno:
        return answer, world
    return answer, world.settled(listening, is_listening=True)


def connect(world: World, call: Connect) -> tuple[Answer, World]:
    """connect(); over TCP the other end waits at the listener, until accept()."""
    socket = world.sockets[call.socket]
    there = parse_address(call.address)
    port = socket.port if socket.port != NO_PORT else SOME_PORT
    wild = socket.address is None or socket.address.number == 0
    mine = take(socket, there, port) if wild else socket
    if socket.protocol is Protocol.UDP:
        return OK, world.with_socket(mine._replace(state=State.CONNECTED))
    target = mine._replace(name="", address=there, port=call.port, v6only=False)
    bucket = world.buckets.get(place_of(target), EMPTY)
    listener = next(
        (
            found
            for name in bucket.members
            if (found := world.sockets[name]).state is State.LISTEN
            and meet(target, found)
        ),
        None,
    )
    if listener is None:
        return refuse("ECONNREFUSED", NO_LISTENER), world
    child = take(listener, there, call.port)._replace(
        name=call.child,
        # No process has it yet.
        owner=listener.owner if world.rulebook.keeps_owner else NOBODY,
        state=State.CONNECTED,
        peer=socket.name,
        listener=listener.name,
    )
    connected = mine._replace(state=State.CONNECTED, peer=call.child)
    world = world.with_socket(connected).with_socket(child)
    return OK, world.with_bucket(child, bucket._replace(members=enter(bucket.members, child)))


def close(world: World, name: str) -> World:
    """close() of the last descriptor: who closes a connection first keeps its port a while."""
    socket = world.sockets[name]
    if socket.state is State.LISTEN:
        for other in [*world.sockets.values()]:
            if other.listener == name:
                world = world.without(other.name)
    peer = world.sockets.get(socket.peer)
    if socket.protocol is Protocol.TCP and peer and peer.state is State.CONNECTED:
        return world.with_socket(socket._replace(state=State.TIME_WAIT))
    return world.without(name)
