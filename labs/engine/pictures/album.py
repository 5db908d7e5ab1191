"""The album: takes a run's events, and has a picture of the state at any moment."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs.engine.model import (
    ENGINE,
    CallMade,
    Event,
    HostOpened,
    ProcessStarted,
    Quantity,
    RunStarted,
    StepEnded,
    StepStarted,
)
from labs.engine.pictures.calls import DRAWN, Descriptors, read_call
from labs.engine.pictures.chart import Moment, find_lives, make_chart
from labs.engine.pictures.people import People
from labs.engine.pictures.scene import (
    Attempt,
    Door,
    HostFrame,
    Picture,
    Queue,
    Target,
)
from labs.engine.strace import show_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labs.engine.model import Address, Evidence, SocketEvidence, Timeline
    from labs.engine.pictures.calls import ShownCall
    from labs.engine.pictures.chart import Chart, Life

MOST_DOORS = 4
WILDCARDS = ("0.0.0.0", "::", "127.0.0.1", "::1")
# Calls by which a process begins to serve, and by which it ends.
BEGINNINGS = ("listen", "serve", "exec")
ENDINGS = ("stop", "exit", "close", "drain")
OF_LISTENERS = ("listen", "close", "drain")  # which of them are so for a listener alone


@dataclass(frozen=True)
class State:
    """What a host's evidence came to: bound sockets, connections by what they have, processes."""

    bound: tuple[tuple[str, int, Queue], ...]
    connections: Mapping[tuple[str, int, str], int]
    peers: Mapping[tuple[str, int, Address, str], int]
    processes: frozenset[str]


NOTHING = State((), {}, {}, frozenset())


class Album:
    """A view of a run; `picture` is what there is now, and what the open step has tried."""

    def __init__(self) -> None:
        self._begin()

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case RunStarted():
                self._begin()
            case HostOpened():
                self._hosts[event.host] = (event.ipv4, event.ipv6)
                self._touched[event.host] = None
            case ProcessStarted():
                self._start(event)
            case StepStarted():
                self._begin_step()
            case CallMade():
                self._take_call(event)
            case StepEnded():
                self._end_step(event)

    @property
    def picture(self) -> Picture:
        """The state after the last event."""
        return Picture(tuple(map(self._frame, self._shown_hosts())), self._chart)

    def user(self, process: str) -> int:
        """The number of the user that a process has now, by which its sign and colour go."""
        return self._people.figure(process).user

    # --- what comes ---

    def _begin(self) -> None:
        self._hosts: dict[str, tuple[str, str]] = {}
        self._people = People()
        self._processes = self._people.processes
        self._ports: set[int] = set()  # that a call was aimed at, in any step
        self._loads: dict[str, int] = {}  # at which port, by who makes the requests
        self._states: dict[str, State] = {}
        self._descriptors = Descriptors()
        self._moments: list[Moment] = []
        self._begin_step()

    def _begin_step(self) -> None:
        self._attempts: dict[tuple[int, str, str, Target | None, str], Attempt] = {}
        self._focus: set[int] = set()
        self._touched: dict[str, None] = {}
        self._chart: Chart | None = None

    def _start(self, event: ProcessStarted) -> None:
        self._people.start(event)
        self._descriptors.copy(event.parent, event.process)

    def _take_call(self, event: CallMade) -> None:
        process = self._processes.get(event.process)
        if process:
            self._touched[process.host] = None
            self._people.hear(event)
        call = read_call(event)
        if call is None:
            self._moments.append(Moment(event.process, event.at, begins=False))
            return
        if not event.errno:
            self._take_moment(event, call)
        self._attempt(event, call)
        if not event.errno:
            self._descriptors.take(event.process, call, event)

    def _take_moment(self, event: CallMade, call: ShownCall) -> None:
        """Whether a process begins or ends to serve by a call, or ends its load."""
        if call.name == "stop" and event.process in self._loads:
            self._focus.add(self._loads.pop(event.process))
        elif call.name in (*BEGINNINGS, *ENDINGS):
            socket = self._descriptors.find(event.process, call.descriptor)
            if call.name == "exec":  # it serves with what it inherits
                socket = self._descriptors.find_bound(event.process)
            is_here = socket is not None and socket.address is not None and not socket.is_away
            if is_here or call.name not in (*OF_LISTENERS, "exec"):
                begins = call.name in BEGINNINGS
                port = socket.address[1] if socket and socket.address else None
                self._moments.append(Moment(event.process, event.at, begins, port))

    def _attempt(self, event: CallMade, call: ShownCall) -> None:
        known = self._descriptors.find(event.process, call.descriptor)
        address = call.address or (known.address if known else None)
        target = None
        if not (known.is_away if known else self._descriptors.is_away(event.process)):
            protocol = known.protocol if known and known.protocol else "tcp"
            target = self._find_target(event.process, call.name, protocol, address)
        if target:
            self._focus.add(target.port)
            self._ports.add(target.port)
            if call.name == "load" and not event.errno:
                self._loads[event.process] = target.port
        if call.name not in DRAWN and not event.errno:
            return
        name = DRAWN.get(call.name, call.name)
        where = show_address(address) if name == "bind" and address else call.unix_name
        shown = f"{name} {where}" if where else name
        key = (event.uid, event.process, shown, target, event.errno)
        made = self._attempts.get(key)
        if made:
            self._attempts[key] = replace(made, count=made.count + call.count)
        else:
            figure = self._people.figure(event.process, event.uid)
            self._attempts[key] = Attempt(figure, shown, target, event.errno, call.count)

    def _find_target(
        self, process: str, name: str, protocol: str, address: tuple[str, int] | None
    ) -> Target | None:
        if address is None or not address[1]:
            return None
        protocol = "udp" if name == "sendto" else protocol
        for host, addresses in self._hosts.items():
            if address[0] in addresses:
                return Target(host, protocol, address[1])
        started = self._processes.get(process)
        if started and (address[0] in WILDCARDS or name in ("bind", "listen")):
            return Target(started.host, protocol, address[1])
        return None

    def _end_step(self, event: StepEnded) -> None:
        for evidence in event.evidence:
            self._people.see(evidence)
            self._touched[evidence.host] = None
            self._states[evidence.host] = self._reduce(evidence)
        outcome = event.outcome
        if isinstance(outcome, Quantity):
            self._chart = make_chart(outcome, self._lives(outcome.timeline))

    def _lives(self, timeline: Timeline | None) -> Sequence[Life]:
        """Who served while a load lasted, at the ports of this step or at one that nobody knows."""
        if timeline is None:
            return ()
        hosts = self._shown_hosts()
        moments = (
            moment
            for moment in self._moments
            if moment.process in self._processes
            and self._processes[moment.process].host in hosts
            and (moment.port is None or moment.port in self._focus)
        )
        return find_lives(moments, timeline, self.user)

    # --- what is shown ---

    def _reduce(self, evidence: Evidence) -> State:
        bound = []
        # Tens of thousands, in some steps: a Counter would take twice as long.
        connections: dict[tuple[str, int, str], int] = defaultdict(int)
        peers: dict[tuple[str, int, Address, str], int] = defaultdict(int)
        for socket in evidence.sockets:
            row = socket.row
            if not row.peer[1]:
                bound.append((row.protocol, row.local[1], self._queue(socket)))
            else:
                connections[row.protocol, row.local[1], row.state] += 1
                peers[row.protocol, row.local[1], row.peer, row.state] += 1
        names = frozenset(process.name for process in evidence.processes)
        return State(tuple(bound), connections, peers, names)

    def _queue(self, socket: SocketEvidence) -> Queue:
        row = socket.row
        return Queue(
            row.local[0],
            row.state == "LISTEN",
            row.state == "LISTEN" or row.protocol == "udp",
            row.receive_queue,
            row.send_queue,
            self._people.number(socket.user),
            row.uid,
            socket.user,
            bool(socket.reuseaddr),
            bool(socket.reuseport),
            tuple(map(self._people.figure, socket.holders)),
        )

    def _shown_hosts(self) -> list[str]:
        targets = {attempt.target.host for attempt in self._attempts.values() if attempt.target}
        chosen = {*self._touched, *targets}
        return [host for host in self._hosts if host in chosen]

    def _frame(self, host: str) -> HostFrame:
        state = self._states.get(host, NOTHING)
        attempts = tuple(
            replace(attempt, figure=self._people.figure(attempt.figure.name, uid))
            for (uid, *_), attempt in self._attempts.items()
            if self._host_of(attempt) == host
        )
        doors, others = self._doors(host, state)
        drawn = {figure.name for door in doors for queue in door.queues for figure in queue.holders}
        drawn |= {attempt.figure.name for attempt in attempts}
        idle = [name for name in self._living(host, state) if name not in drawn]
        ports = {(door.protocol, door.port) for door in doors}
        elsewhere: Counter[tuple[str, str]] = Counter()
        for (protocol, port, peer, kind), count in state.peers.items():
            if (protocol, port) not in ports and self._is_far(host, peer):
                elsewhere[show_address(peer), kind] += count
        figures = tuple(map(self._people.figure, idle))
        addresses = self._hosts[host]
        return HostFrame(host, addresses, doors, figures, attempts, elsewhere, others)

    def _host_of(self, attempt: Attempt) -> str:
        """Where a call came from; what the container engine publishes belongs to its target."""
        if attempt.figure.name == ENGINE:
            return attempt.target.host if attempt.target else ""
        return self._processes[attempt.figure.name].host

    def _living(self, host: str, state: State) -> list[str]:
        """The processes of a host: those of its evidence, or all that were started without one."""
        if state is not NOTHING:
            return [name for name in self._processes if name in state.processes]
        return [name for name, started in self._processes.items() if started.host == host]

    def _is_far(self, host: str, peer: Address) -> bool:
        """Whether the other end of a connection is a port of another host that was asked."""
        return peer[1] in self._ports and peer[0] not in (*self._hosts[host], *WILDCARDS)

    def _doors(self, host: str, state: State) -> tuple[tuple[Door, ...], tuple[str, ...]]:
        """The doors that are drawn, those of this step first, and the ports that are left out."""
        queues: dict[tuple[str, int], list[Queue]] = {}
        for protocol, port, queue in state.bound:
            queues.setdefault((protocol, port), []).append(queue)
        for attempt in self._attempts.values():
            if attempt.target and attempt.target.host == host:
                queues.setdefault((attempt.target.protocol, attempt.target.port), [])
        for protocol, port, _ in state.connections:
            if port in self._focus:
                queues.setdefault((protocol, port), [])
        focused = [key for key in queues if key[1] in self._focus]
        chosen = (focused or list(queues))[:MOST_DOORS]
        left = sorted(
            {f"{protocol} {port}" for protocol, port in queues if (protocol, port) not in chosen}
        )
        return tuple(self._door(key, queues[key], state) for key in sorted(chosen)), tuple(left)

    def _door(self, key: tuple[str, int], queues: list[Queue], state: State) -> Door:
        counts = {
            kind: count
            for (protocol, port, kind), count in state.connections.items()
            if (protocol, port) == key
        }
        names = list(self._processes)

        def place(queue: Queue) -> tuple[bool, str, int, int]:
            known = [names.index(figure.name) for figure in queue.holders if figure.name in names]
            return queue.group is None, queue.address, queue.uid, min(known, default=len(names))

        return Door(*key, tuple(sorted(queues, key=place)), counts)
