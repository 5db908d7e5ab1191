"""What is so after a call that was not refused, each call by its name."""

from __future__ import annotations

import socket as sockets
from typing import TYPE_CHECKING

from labs.engine.following.actor import AS_IT_IS
from labs.engine.following.connecting import accept, connect, find_target, source, visit
from labs.engine.following.files import OpenSocket
from labs.engine.following.state import with_host
from labs.engine.rules.calls import Acknowledge, Close, Option, SetOption
from labs.engine.rules.host import Host
from labs.engine.rules.model import carry_out, with_option
from labs.engine.rules.sockets import CLOSE, IPV4, IPV6, LISTEN, NO_PORT, TCP, UDP, Socket, State
from labs.engine.strace import CLONE_NEWNET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from labs.engine.following.actor import Actor
    from labs.engine.following.state import State as Following
    from labs.engine.model import Argument, Value

    Effect: TypeAlias = Callable[..., None]
    """Of what is followed, who called, what it returned, and the call's arguments."""

FAMILIES = {int(sockets.AF_INET): IPV4, int(sockets.AF_INET6): IPV6}
PROTOCOLS = {int(sockets.SOCK_STREAM): TCP, int(sockets.SOCK_DGRAM): UDP}
OPTIONS = {
    (int(sockets.SOL_SOCKET), int(sockets.SO_REUSEADDR)): Option.REUSEADDR,
    (int(sockets.SOL_SOCKET), int(sockets.SO_REUSEPORT)): Option.REUSEPORT,
    (int(sockets.IPPROTO_IPV6), int(sockets.IPV6_V6ONLY)): Option.V6ONLY,
}
DEVICE = (int(sockets.SOL_SOCKET), int(sockets.SO_BINDTODEVICE))
QUICK = (int(sockets.IPPROTO_TCP), int(sockets.TCP_QUICKACK))
ANYWHERE = {(int(sockets.IPPROTO_IP), option) for option in (15, 19)}  # IP_FREEBIND, IP_TRANSPARENT
DEVICES = frozenset({"lo", "eth0"})
SHUTTING = {"accept", "lock"}  # ways to serve whose end shuts the listener down


def open_socket(
    state: Following, actor: Actor, value: int, family: int, kind: int, _: int = 0
) -> None:
    """socket()."""
    new = OpenSocket(namespace=actor.namespace)
    if family in FAMILIES and kind in PROTOCOLS and actor.namespace is not None:
        # A descriptor's number comes again, a socket does not.
        state.made += 1
        new.name = f"{actor.name}/{value} {state.made}"
        owner = actor.user.uid
        protocol, kind_of_address = PROTOCOLS[kind], FAMILIES[family]
        state.change(Socket(new.name, protocol, kind_of_address, owner, actor.namespace))
    state.files.keep(actor.name, value, new)


def set_option(
    state: Following,
    actor: Actor,
    _value: Value,
    descriptor: int,
    level: int,
    option: int,
    setting: int | str,
) -> None:
    """setsockopt()."""
    found = state.files.find(actor.name, descriptor)
    known = state.known(found)
    if found is None:
        return
    which = (level, option)
    if which in ANYWHERE:
        found.is_bound_anywhere = bool(setting)
    elif which == DEVICE:
        change_option(state, actor, known, Option.DEVICE, str(setting).rstrip("\0"))
    elif which == QUICK and known is not None:
        state.world = carry_out(state.world, Acknowledge(actor.user, known.name))[1]
    elif which in OPTIONS:
        if known is None and found.is_accepted:
            state.ports[found.namespace or "", True, found.port].mixed = True
        change_option(state, actor, known, OPTIONS[which], bool(setting))


def attach_program(state: Following, actor: Actor, _: Value, descriptor: int, *__: object) -> None:
    """SO_ATTACH_REUSEPORT_CBPF, which makes a difference before bind()."""
    known = state.find(actor, descriptor)
    if known is not None and known.port == NO_PORT:
        change_option(state, actor, known, Option.PROGRAM, True)


def change_option(
    state: Following, actor: Actor, known: Socket | None, option: Option, setting: bool | str
) -> None:
    """A socket has another option now."""
    if known is not None:
        state.change(with_option(known, SetOption(actor.user, known.name, option, setting)))


def give(state: Following, actor: Actor, _: Value, descriptor: int, uid: int, __: int) -> None:
    """fchown()."""
    known = state.find(actor, descriptor)
    if known is not None and uid != AS_IT_IS:
        state.change(known._replace(owner=actor.kuid(uid)))


def connect_to(
    state: Following, actor: Actor, _: Value, descriptor: int, address: tuple[str, int] | str
) -> None:
    """connect()."""
    found = state.files.find(actor.name, descriptor)
    if found is None:
        return
    known = state.known(found)
    if isinstance(address, str):
        state.files.connect_unix(found, address)
    elif known is None:
        request(state, actor, None, address)
    elif known.protocol is TCP:
        connect(state, known, address)
    elif known.port > 0:
        state.change(known._replace(address=source(state, known, address), state=State.CONNECTED))


def accept_from(state: Following, actor: Actor, value: int, descriptor: int) -> None:
    """accept()."""
    listener = state.files.find(actor.name, descriptor)
    if listener is None:
        return
    known = state.known(listener)
    if known is None:
        state.files.keep(actor.name, value, state.files.accept_unix(listener))
        return
    new = OpenSocket(namespace=known.namespace, port=known.port, is_accepted=True)
    accept(state, actor.user, known, new)
    state.files.keep(actor.name, value, new)


def request(
    state: Following, actor: Actor, _: Value, address: tuple[str, int], *__: object
) -> None:
    """Connections that are not seen one by one."""
    target = find_target(state, actor.namespace, address)
    if target is not None:
        state.ports[target.place].crowded = True
        visit(state, target, f"some at {target.place}")


def serve(state: Following, actor: Actor, _: Value, descriptor: int, way: str, *__: object) -> None:
    """A process serves."""
    state.serving[actor.name] = (descriptor, way)


def stop(state: Following, actor: Actor, _: Value) -> None:
    """It serves no more; by some ways that shuts its listener down."""
    descriptor, way = state.serving.pop(actor.name, (0, ""))
    if way in SHUTTING:
        shut_down(state, actor, None, descriptor, sockets.SHUT_RDWR)


def shut_down(state: Following, actor: Actor, _: Value, descriptor: int, how: int) -> None:
    """shutdown(): a listener is bound after it, and no more; a connection stays as it is."""
    known = state.find(actor, descriptor)
    if known is not None and known.state is LISTEN and how != sockets.SHUT_WR:
        state.change(known._replace(state=CLOSE))


def send(state: Following, actor: Actor, _: Value, descriptor: int, passed: int) -> None:
    """SCM_RIGHTS: a descriptor is sent."""
    connection = state.files.find(actor.name, descriptor)
    socket = state.files.find(actor.name, passed)
    if connection is not None and socket is not None:
        state.files.send(connection, socket)


def receive(state: Following, actor: Actor, value: int, descriptor: int) -> None:
    """A descriptor has come."""
    state.files.receive(actor.name, state.files.find(actor.name, descriptor), value)


def copy(state: Following, actor: Actor, value: int, pid: int, descriptor: int) -> None:
    """pidfd_getfd(): a copy of another process's descriptor."""
    owner = state.actor_of(actor.host, pid)
    socket = state.files.find(owner.name, descriptor) if owner else None
    if socket is not None:
        state.files.keep(actor.name, value, socket)


def set_inheritable(
    state: Following, actor: Actor, _: Value, descriptor: int, inheritable: int
) -> None:
    """FD_CLOEXEC."""
    state.files.set_inheritable(actor.name, descriptor, bool(inheritable))


def leave_network(state: Following, actor: Actor, _: Value, flags: int) -> None:
    """unshare(): a network namespace of its own, without an address but the loopback's."""
    if flags & CLONE_NEWNET:
        state.made += 1
        actor.namespace = f"{actor.name}'s {state.made}"
        add_namespace(state, actor.namespace, Host(frozenset(), frozenset({"lo"})))


def change_network(state: Following, actor: Actor, _: Value, pid: int = 0) -> None:
    """setns(): back to its host's network namespace, or into another process's."""
    if not pid:
        actor.namespace = actor.host
        return
    other = state.actor_of(actor.host, pid)
    actor.namespace = other.namespace if other else None


def add_namespace(state: Following, name: str, host: Host) -> None:
    """There is one more network namespace."""
    state.world = with_host(state.world, name, host)


def close(state: Following, actor: Actor, _: Value, descriptor: int) -> None:
    """close()."""
    end_all(state, actor, state.files.close(actor.name, descriptor))


def end_all(state: Following, actor: Actor, ended: Iterable[OpenSocket]) -> None:
    """No descriptor leads to these sockets any more."""
    for socket in [*ended]:
        state.targets.pop(socket.name, None)
        if socket.name in state.world.sockets:
            state.world = carry_out(state.world, Close(actor.user, socket.name))[1]


EFFECTS: Mapping[str, Effect] = {
    "socket": open_socket,
    "setsockopt": set_option,
    "attach_reuseport_cbpf": attach_program,
    "fchown": give,
    "connect": connect_to,
    "accept": accept_from,
    "request": request,
    "request_from_sleep": request,
    "load": request,
    "serve": serve,
    "stop": stop,
    "shutdown": shut_down,
    "send_fds": send,
    "recv_fds": receive,
    "pidfd_getfd": copy,
    "set_inheritable": set_inheritable,
    "unshare": leave_network,
    "setns": change_network,
    "close": close,
}


def take_effect(
    state: Following, actor: Actor, name: str, value: Value, arguments: Iterable[Argument | Value]
) -> None:
    """What is so after a call that was not refused."""
    if name in EFFECTS:
        EFFECTS[name](state, actor, value, *arguments)
