"""A sequence of calls that grows from numbers, each call one that the rules speak of.

What a number comes to depends on what is there by then, which the model says. Small numbers make
what is simple, so that who looks for smaller ones finds a shorter sequence; zeros make nothing.
"""

from __future__ import annotations

from string import ascii_uppercase
from typing import TYPE_CHECKING, NamedTuple

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
from labs.engine.rules.model import carry_out
from labs.engine.rules.sockets import (
    CLOSE,
    CONNECTED,
    FIN_WAIT1,
    IPV4,
    IPV6,
    LISTEN,
    TCP,
    UDP,
    parse_address,
)
from labs.engine.rules.world import World
from labs.engine.verification.cell import ALICE, BOB, ELSEWHERE, HOSTS, KEEPER, PLANS, ROOT, Cell
from labs.engine.verification.witness import LOW_PORT, OTHER_PORT, PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from labs.engine.rules.calls import Call, User
    from labs.engine.rules.rulebook import Rulebook

    Item = TypeVar("Item")

STEPS = 16  # of a sequence; each is a call, or a few that belong together, or none
MOST_SOCKETS = 6

# What stands more than once comes more often; what stands first is what a sequence shrinks to.
PORTS = (*(PORT,) * 16, *(OTHER_PORT,) * 2, LOW_PORT, 0)
CONNECTED_TO = (PORT, OTHER_PORT, LOW_PORT)
USERS = (*(ALICE,) * 9, *(BOB,) * 3, ROOT, KEEPER, KEEPER, ELSEWHERE)
OWNERS = (ALICE.uid, BOB.uid, ROOT.uid)
KINDS = (
    *((TCP, IPV4), (TCP, IPV6), (TCP, IPV4), (TCP, IPV6), (TCP, IPV4)),
    *((UDP, IPV4), (UDP, IPV6), (UDP, IPV4)),
)
REUSEADDR, REUSEPORT, V6ONLY = Option.REUSEADDR, Option.REUSEPORT, Option.V6ONLY
SETTINGS: tuple[tuple[Option, bool | str], ...] = (
    *((REUSEADDR, True), (REUSEPORT, True), (REUSEADDR, False), (REUSEPORT, False)) * 3,
    *((V6ONLY, True), (V6ONLY, False), (Option.PROGRAM, True)),
    *((Option.DEVICE, "lo"), (Option.DEVICE, "eth0"), (Option.DEVICE, ""), (Option.DEVICE, "eth7")),
)
PLAIN: tuple[tuple[Option, bool | str], ...] = ()
RA, RP = ((REUSEADDR, True),), ((REUSEPORT, True),)
OPENED_WITH: tuple[tuple[tuple[Option, bool | str], ...], ...] = (
    *(PLAIN, RA, RP, (*RA, *RP), PLAIN, RA, RP, (*RA, *RP), RP, RP),
    *(((V6ONLY, True),), (*RP, (V6ONLY, True)), ((Option.DEVICE, "lo"),)),
    *(((Option.DEVICE, "eth0"),), (*RP, (Option.DEVICE, "lo")), (*RP, (Option.PROGRAM, True))),
)
ADDRESSES = {
    IPV4: (
        *("127.0.0.1", "0.0.0.0", "127.0.0.1", "0.0.0.0", "127.0.0.1", "0.0.0.0", "127.0.0.1"),
        *("127.0.0.1", "0.0.0.0", "127.0.0.2", PLANS["one"].ipv4, "10.255.255.1"),
    ),
    IPV6: (
        *("::1", "::", "::ffff:127.0.0.1", "::", "::1", "::", "::ffff:0.0.0.0", "::1", "::"),
        *("::ffff:127.0.0.1", "::", PLANS["one"].ipv6, "2001:db8::1", "::ffff:10.255.255.1"),
    ),
}
ETHERNET = frozenset(
    parse_address(text) for plan in PLANS.values() for text in (plan.ipv4, plan.ipv6)
)
TARGETS = {IPV4: ("127.0.0.1",), IPV6: ("::1", "::ffff:127.0.0.1")}


class Step(NamedTuple):
    """Numbers of a byte each, of which a sequence makes its next calls."""

    verb: int
    who: int
    what: int
    where: int
    port: int


def grow(rulebook: Rulebook, steps: Iterable[Step]) -> Cell:
    """The sequence that some steps make, under these rules."""
    growth = Growth(rulebook)
    for step in steps:
        VERBS[step.verb % len(VERBS)](growth, step)
    return Cell("a sequence", tuple(growth.calls))


class Growth:
    """A sequence as it grows, and the model's world after it."""

    def __init__(self, rulebook: Rulebook) -> None:
        self.calls: list[Call] = []
        self._world = World(rulebook, HOSTS)
        self._holders: dict[str, User] = {}  # who can make calls with which socket
        self._count = 0  # of the names that are given
        self._mapped: set[str] = set()  # sockets that were to connect to a mapped address
        self._used: set[tuple[str, int, int]] = set()  # ports that were connected already

    def nothing(self, step: Step) -> None:
        """No call."""

    def open(self, step: Step) -> str:
        """socket(), and options; a name, empty where there is no room for one more."""
        if len(self._holders) >= MOST_SOCKETS:
            return ""
        name = self._next_name()
        self._count += 1
        user = choose(USERS, step.who)
        self._holders[name] = user
        self._do(Open(user, name, *choose(KINDS, step.where // 10)))
        for option in choose(OPENED_WITH, step.what):
            self._do(SetOption(user, name, *option))
        return name

    def open_bound(self, step: Step) -> str:
        """The same, and bind()."""
        if name := self.open(step):
            self._bind(name, step)
        return name

    def open_listening(self, step: Step) -> None:
        """The same, and listen()."""
        if name := self.open_bound(step):
            self._do(Listen(self._holders[name], name))

    def set_option(self, step: Step) -> None:
        """setsockopt(), but nothing that would cut a connection off."""
        name = self._choose(step)
        if not name:
            return
        option, value = choose(SETTINGS, step.what)
        if option is not Option.DEVICE or self._world.sockets[name].state is not CONNECTED:
            self._do(SetOption(self._holders[name], name, option, value))

    def chown(self, step: Step) -> None:
        """fchown()."""
        if name := self._choose(step):
            self._do(Chown(self._holders[name], name, choose(OWNERS, step.what)))

    def bind(self, step: Step) -> None:
        """bind()."""
        if name := self._choose(step):
            self._bind(name, step)

    def listen(self, step: Step) -> None:
        """listen()."""
        if name := self._choose(step):
            self._do(Listen(self._holders[name], name))

    def connect(self, step: Step) -> None:
        """connect(), where the rules say what comes of it."""
        if name := self._choose(step):
            self._connect(name, step)

    def open_client(self, step: Step) -> None:
        """socket(), and connect()."""
        if name := self.open(step):
            self._connect(name, step)

    def _connect(self, name: str, step: Step) -> None:
        calls = [
            Connect(self._holders[name], name, address, port, self._next_name())
            for port in CONNECTED_TO
            for address in TARGETS[self._world.sockets[name].family]
        ]
        # More often than not to where somebody listens.
        heard = [call for call in calls if self._world.find_listener(call)]
        call = choose(heard if heard and step.port % 8 else calls, step.where)
        address, port = call.address, call.port
        if not is_foreseeable(self._world, call) or not self._is_new(call):
            return
        # Once refused there, the kernel finds no way to an address of IPv6, be it as a client or,
        # for its connections, as a listener.
        if parse_address(address).is_ipv4:
            self._mapped.add(name)
        elif name in self._mapped or self._is_lost(call):
            return
        self._do(call)
        client = self._world.sockets[name]
        if client.protocol is TCP and client.port > 0:
            self._used.add((client.namespace, client.port, port))
        self._count += call.child in self._world.sockets

    def accept(self, step: Step) -> None:
        """accept() of the first in a queue, or by who has none; nobody waits at an empty one."""
        sockets = self._world.sockets
        waiting = [one for one in sockets.values() if one.listener]
        name = choose(waiting, step.who).listener if waiting else self._choose(step)
        if not name or (not waiting and step.what % 4):
            return
        queue = [one.name for one in waiting if one.listener == name]
        if not queue and sockets[name].state is LISTEN:
            return
        call = Accept(self._holders[name], name, queue[0] if queue else self._next_name())
        self._do(call)
        if queue:
            self._holders[call.child] = call.user

    def close(self, step: Step) -> None:
        """close(), and where that ends a connection, the other end's word that it has heard."""
        name = self._choose(step)
        if not name:
            return
        thrown_away = [one.peer for one in self._world.sockets.values() if one.listener == name]
        self._do(Close(self._holders.pop(name), name))
        hears = next((peer for peer in thrown_away if peer in self._holders), "")
        rest = self._world.sockets.get(name)
        if rest and rest.state is FIN_WAIT1:
            peer = self._world.sockets[rest.peer]
            hears = peer.listener or peer.name
        if hears:
            self._do(Acknowledge(self._holders[hears], hears))

    def _bind(self, name: str, step: Step) -> None:
        address = choose(ADDRESSES[self._world.sockets[name].family], step.where)
        self._do(Bind(self._holders[name], name, address, choose(PORTS, step.port)))

    def _is_lost(self, call: Connect) -> bool:
        """Whether who listens there was to connect to a mapped address before."""
        listener = self._world.find_listener(call)
        return listener is not None and listener.name in self._mapped

    def _is_new(self, call: Connect) -> bool:
        """Whether no connection that there is, or was, can have the ends of this one."""
        socket = self._world.sockets[call.socket]
        if socket.protocol is UDP or socket.port <= 0:
            return True
        where, mine, theirs = socket.namespace, socket.port, call.port
        used = ((where, mine, theirs), (where, theirs, mine))
        return mine != theirs and self._used.isdisjoint(used)

    def _next_name(self) -> str:
        turn, letter = divmod(self._count, len(ascii_uppercase))
        return f"{ascii_uppercase[letter]}{turn or ''}"

    def _choose(self, step: Step) -> str:
        """One of the sockets that somebody holds, the newest first; empty where there is none."""
        return choose([*reversed(self._holders)], step.who) if self._holders else ""

    def _do(self, call: Call) -> None:
        _, self._world = carry_out(self._world, call)
        self.calls.append(call)


def choose(items: Sequence[Item], number: int) -> Item:
    """The item with this number, counted over and over."""
    return items[number % len(items)]


def is_foreseeable(world: World, call: Connect) -> bool:
    """Whether the rules say what comes of a connect().

    They do not where several listen, among whom the kernel chooses, nor how a way is found from a
    device other than an address's own, or from a mapped address to one that is not.
    """
    socket = world.sockets[call.socket]
    there, here = parse_address(call.address), socket.address
    if socket.device and (socket.device != "lo" or here in ETHERNET):
        return False
    if not there.is_ipv4 and here and here.is_ipv4:
        return False
    if socket.protocol is UDP:
        return socket.state is CLOSE
    listeners = [*world.list_listeners(call)]
    return not listeners or (len(listeners) == 1 and not (listeners[0].device and here in ETHERNET))


VERBS: tuple[Callable[[Growth, Step], object], ...] = (
    *(Growth.nothing, Growth.open, Growth.bind, Growth.listen, Growth.close, Growth.set_option),
    *(Growth.connect, Growth.accept, Growth.chown, Growth.open_bound, Growth.open_listening),
    *(Growth.open_client, Growth.open_bound, Growth.open_bound, Growth.open_bound),
    *(Growth.open_listening, Growth.open_listening, Growth.open_listening, Growth.open_client),
    *(Growth.open_client, Growth.open_client, Growth.close, Growth.close, Growth.set_option),
    *(Growth.set_option, Growth.accept, Growth.accept, Growth.accept, Growth.listen),
)
