"""The follower: a world of the rules beside a run, made of the calls that its processes make.

The kernel's answers decide what there is; the rules only say what they would have answered. Where
sockets are that no agent made, or that were lost sight of, the follower knows that it does not
know, and names no rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from labs.engine.following.actor import Actor
from labs.engine.following.claim import Claim
from labs.engine.following.connecting import adopt
from labs.engine.following.effects import DEVICES, add_namespace, end_all, take_effect
from labs.engine.following.port import compare
from labs.engine.following.state import State, with_host
from labs.engine.model import Reference
from labs.engine.rules.calls import Bind, Listen
from labs.engine.rules.host import Host
from labs.engine.rules.model import carry_out
from labs.engine.rules.rulebook import read_version, rules_of
from labs.engine.rules.sockets import LISTEN, SOME_PORT, parse_address
from labs.engine.rules.world import World, place_of, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from labs.engine.decision import Decision
    from labs.engine.model import Argument, Call, CallResult, Observation, Value
    from labs.engine.plans import HostPlan, ProcessPlan, StartedProcess
    from labs.engine.rules.rulebook import Rulebook
    from labs.engine.rules.sockets import Socket
    from labs.engine.rules.world import Place
    from labs.engine.translation import Say

FIRST_CHOSEN = 32_768  # of the ports that the kernel gives out: ip_local_port_range
MULTICAST_IPV4, MULTICAST_IPV6 = range(224, 240), 0xFF
CLAIMS = ("bind", "listen")


class Follower:
    """Takes what a run's session does, in its order."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._state = State(World(rulebook, {}))
        self._claim: Claim | None = None
        self._claim_before: Claim | None = None  # be it known or not
        self._is_measured = False

    # --- hosts, processes and steps ---

    def open_host(self, plan: HostPlan) -> None:
        """A host is there."""
        self._state.plans[plan.name] = plan
        addresses = frozenset(map(parse_address, (plan.ipv4, plan.ipv6, "::1")))
        host = Host(addresses, DEVICES, plan.unprivileged_port_start)
        add_namespace(self._state, plan.name, host)

    def start(self, plan: ProcessPlan, started: StartedProcess) -> None:
        """A process with an agent is there; one of a sandbox starts what nobody knows."""
        self._state.actors[plan.name] = Actor.of(plan, started)
        if plan.sandbox:
            self.meet_strangers(plan.host)

    def fork(self, parent: str, child: str, started: StartedProcess) -> None:
        """A process has forked."""
        actors = self._state.actors
        actors[child] = actors[parent].forked(child, started)
        self._state.files.fork(parent, child)

    def execute(self, process: str) -> None:
        """A process has become a program, which does what no agent tells."""
        actor = self._state.actors[process]
        end_all(self._state, actor, self._state.files.execute(process))
        self.meet_strangers(actor.host)

    def meet_strangers(self, host: str) -> None:
        """From now on a host may have sockets that no agent made."""
        self._state.strangers.add(host)

    def end(self, process: str) -> None:
        """A process has ended."""
        if (actor := self._state.actors.pop(process, None)) is not None:
            end_all(self._state, actor, self._state.files.end(process))
            self._state.serving.pop(process, None)

    def begin_step(self, *, is_measured: bool) -> None:
        """A step begins; where one measures, nothing is looked at besides."""
        self._claim = self._claim_before = None
        self._is_measured = is_measured

    def decide(self, user_of: Callable[[int], str], say: Say) -> Decision | None:
        """What the rules said to the last bind() or listen() of the step; None where unknown."""
        if self._claim is None:
            return None
        return self._claim.decide(self._state.world.rulebook, user_of, say)

    # --- calls ---

    def prepare(
        self, process: str, calls: Sequence[Call], observe: Callable[[str], Observation]
    ) -> None:
        """Before the kernel is asked for a port: see who is there, where others may have come."""
        actor = self._state.actors.get(process)
        if actor is None:
            return
        places = [
            place
            for call in calls
            if call.name in CLAIMS
            for place in self._places(actor, call)
            if self._is_unclear(place)
        ]
        namespace = actor.namespace
        if places and not self._is_measured and namespace in self._state.plans:
            assert namespace is not None
            rows = observe(namespace).sockets
            for place in places:
                self._state.world = adopt(self._state, place, rows)
                port = self._state.ports[place]
                self._state.world = compare(self._state.world, place, port, rows)
        else:
            for place in places:
                self._state.ports[place].blurred = True

    def take(self, process: str, calls: Sequence[Call], results: Sequence[CallResult]) -> None:
        """What a process asked the kernel, and what it was answered; the last may be refused."""
        actor = self._state.actors.get(process)
        if actor is None:
            return
        values = [result.value for result in results]
        for call, result in zip(calls, results, strict=False):
            arguments = [resolve(argument, values) for argument in call.arguments]
            if call.name in CLAIMS:
                self._take_claim(actor, call.name, arguments, result.errno_name)
            elif not result.errno:
                actor.called(call.name, result.credentials)
                take_effect(self._state, actor, call.name, result.value, arguments)

    # --- asking for a port ---

    def _places(self, actor: Actor, call: Call) -> Iterable[Place]:
        """Which port a call asks for, as far as that can be seen before it is made."""
        match call.arguments:
            case [_, (str(), int(port))] if call.name == "bind" and port and actor.namespace:
                yield actor.namespace, True, port
                yield actor.namespace, False, port
            case [int(descriptor), *_] if call.name == "listen":
                known = self._state.find(actor, descriptor)
                if known is not None and known.port > 0:
                    yield place_of(known)

    def _is_unclear(self, place: Place) -> bool:
        namespace, is_tcp, number = place
        if namespace in self._state.strangers or number >= FIRST_CHOSEN:
            return True
        port = self._state.ports.get(place)
        return is_tcp and port is not None and (port.visited or port.blurred)

    def _take_claim(
        self, actor: Actor, name: str, arguments: Sequence[Argument | Value], errno: str
    ) -> None:
        """bind() or listen(): what the rules say to it, and what is so by the kernel's word."""
        found = self._state.files.find(actor.name, arguments[0])
        if found is None:
            self._state.strangers.add(actor.namespace or actor.host)
            return
        known = self._state.known(found)
        match arguments:
            case [_, str(unix)] if not errno:
                self._state.files.bind_unix(found, unix)
            case [_, (str(address), int(port))] if known is not None:
                mine = take(known, parse_address(address), port or SOME_PORT)
                asked: Bind | Listen = Bind(actor.user, known.name, address, port)
                self._settle(actor, asked, mine, errno, anywhere=found.is_bound_anywhere)
            case [_, int()] if known is not None and name == "listen":
                self._settle(actor, Listen(actor.user, known.name), known, errno, anywhere=False)

    def _settle(
        self, actor: Actor, asked: Bind | Listen, mine: Socket, errno: str, *, anywhere: bool
    ) -> None:
        world = self._state.world
        if anywhere and mine.address is not None:
            world = with_address(world, mine)
        answer, after = carry_out(world, asked)
        name = "bind" if isinstance(asked, Bind) else "listen"
        claim = Claim(name, answer, mine, errno)
        if claim.decides_after(self._claim_before):
            self._claim_before = claim
            self._claim = claim if self._is_known(actor, claim) else None
        if errno:
            return
        if answer.errno:
            # The kernel has let it in all the same.
            is_listening = isinstance(asked, Listen)
            state = LISTEN if is_listening else mine.state
            after = world.settled(mine._replace(state=state), is_listening=is_listening)
        self._state.world = replace(after, hosts=self._state.world.hosts)
        self._state.change(self._state.world.sockets[mine.name])

    def _is_known(self, actor: Actor, claim: Claim) -> bool:
        """Whether the follower knows all that the rules ask for."""
        mine = claim.mine
        port = self._state.ports.get(place_of(mine))
        host = self._state.world.hosts[mine.namespace]
        if self._is_measured or (port is not None and port.blurred):
            return False
        if mine.port < host.unprivileged_port_start and actor.capabilities is None:
            return False
        is_strange = is_multicast(mine) or mine.namespace not in self._state.plans
        if is_strange and mine.address is not None and mine.address.number:
            return False
        # Beside strangers somebody may be there whom no observation shows.
        return mine.namespace not in self._state.strangers or claim.agrees


def with_address(world: World, mine: Socket) -> World:
    """The world where a host has the address that a socket may take wherever it is."""
    host = world.hosts[mine.namespace]
    assert mine.address is not None
    addresses = host.addresses | {mine.address}
    return with_host(world, mine.namespace, replace(host, addresses=addresses))


def is_multicast(socket: Socket) -> bool:
    """Whether a socket asks for a group's address, of which the rules say nothing."""
    address = socket.address
    if address is None:
        return False
    if address.is_ipv4:
        return address.number >> 24 in MULTICAST_IPV4
    return address.number >> 120 == MULTICAST_IPV6


def resolve(argument: Argument, values: Sequence[Value]) -> Argument | Value:
    """An argument, or what an earlier call of the batch has returned."""
    return values[argument.index] if isinstance(argument, Reference) else argument


def follow(release: str) -> Follower | None:
    """What follows a run on a kernel of this release; None for one that no rule is for."""
    try:
        return Follower(rules_of(read_version(release)))
    except ValueError:
        return None
