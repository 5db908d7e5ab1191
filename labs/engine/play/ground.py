"""The ground of a playground: which hosts and users it has, as a lab has them or by default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from labs.engine.capabilities import capability_mask
from labs.engine.errors import UsageError
from labs.engine.layout import ACCOUNTS, ROOT, Layout
from labs.engine.rehearsal import rehearse_in
from labs.engine.system import ALL_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from labs.engine.plans import HostPlan, ProcessPlan
    from labs.engine.script import Lab

HOSTS = ("server", "client")
USERS = ("alice", "bob")
USUAL_PORT = 8080


@dataclass(frozen=True)
class Place:
    """A host that is open; `pid` is that of its process 1, as the machine numbers it."""

    name: str
    ipv4: str
    ipv6: str
    pid: int


@dataclass(frozen=True)
class Person:
    """A user; `capabilities` is what its shells and all that they start have, a mask."""

    name: str
    uid: int
    capabilities: int


Named = TypeVar("Named", Place, Person)


@dataclass(frozen=True)
class Ground:
    """An open playground, as those who join it are told; `lab` is empty where it is of none."""

    lab: str
    seed: int | None
    port: int
    hosts: tuple[Place, ...]
    users: tuple[Person, ...]

    def host(self, name: str) -> Place:
        """The host of this name, the first without one; raises UsageError."""
        return find("host", name, self.hosts)

    def user(self, name: str) -> Person:
        """The user of this name, the first without one; raises UsageError."""
        return find("user", name, self.users)


@dataclass(frozen=True)
class Plan:
    """What is to be opened."""

    lab: str
    layout: Layout
    hosts: tuple[HostPlan, ...]
    users: tuple[Person, ...]

    def ground(self, pids: Mapping[str, int]) -> Ground:
        """What was opened, with the pid of each host's process 1."""
        places = [Place(host.name, host.ipv4, host.ipv6, pids[host.name]) for host in self.hosts]
        ports = self.layout.ports() or {USUAL_PORT: self.layout.port(USUAL_PORT)}
        port = ports.get(USUAL_PORT) or min(ports.values())
        return Ground(self.lab, self.layout.seed, port, tuple(places), self.users)


def plan_ground(lab: Lab | None, seed: int | None) -> Plan:
    """The hosts and users of a lab, or the usual ones."""
    layout = Layout(seed)
    if lab is None:
        hosts = tuple(layout.host(name) for name in HOSTS)
        uids = {name: layout.uid(name) for name in (*USERS, ROOT)}
        return Plan("", layout, hosts, list_people(uids, ()))
    needs = rehearse_in(lab, layout)
    # Nothing of the namespaces can be reached from outside.
    hosts = tuple(replace(host, publication=None) for host in needs.hosts)
    used = {layout.user(process.uid) for process in needs.processes}
    names = [name for name in layout.users() if name not in ACCOUNTS or name in used]
    uids = {name: layout.uid(name) for name in (*names, *USERS, ROOT)}
    return Plan(lab.name, layout, hosts, list_people(uids, needs.processes))


def list_people(uids: Mapping[str, int], processes: Sequence[ProcessPlan]) -> tuple[Person, ...]:
    """The users, Alice and Bob first and root last: it has every capability.

    Any other has those that the lab gives to some process of the user's.
    """
    names: dict[int, set[str]] = {process.uid: set() for process in processes}
    for process in processes:
        names[process.uid] |= {*process.capabilities}
    order = sorted(uids, key=lambda name: (name == ROOT, name not in USERS, uids[name]))
    return tuple(
        Person(
            name,
            uids[name],
            ALL_CAPABILITIES if name == ROOT else capability_mask(names.get(uids[name], ())),
        )
        for name in order
    )


def find(what: str, name: str, there_are: Iterable[Named]) -> Named:
    """The one of this name, the first without a name; UsageError where there is none."""
    named = {one.name: one for one in there_are}
    if not name:
        return next(iter(named.values()))
    if name not in named:
        raise UsageError(f"There is no {what} {name} here; there are {', '.join(named)}.")
    return named[name]
