"""A cell of the table: calls in order, in which the kernel and the model are to agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.layout import Layout
from labs.engine.rules.calls import BIND_SERVICE, CHOWN, User
from labs.engine.rules.host import Host
from labs.engine.rules.model import carry_out
from labs.engine.rules.sockets import parse_address
from labs.engine.rules.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.rules.calls import Call
    from labs.engine.rules.rulebook import Rulebook
    from labs.engine.rules.world import Answer

LAYOUT = Layout(None)
PLANS = {name: LAYOUT.host(name) for name in ("one", "two")}
HOSTS = {
    name: Host(
        frozenset({parse_address(text) for text in (plan.ipv4, plan.ipv6, "::1")}),
        frozenset({"lo", "eth0"}),
    )
    for name, plan in PLANS.items()
}
ALICE = User("alice", LAYOUT.uid("alice"), "one")
BOB = User("bob", LAYOUT.uid("bob"), "one")
ROOT = User("root", 0, "one")
KEEPER = User("keeper", 0, "one", frozenset({BIND_SERVICE, CHOWN}))
ELSEWHERE = User("elsewhere", ALICE.uid, "two")
USERS = (ALICE, BOB, ROOT, KEEPER, ELSEWHERE)


@dataclass(frozen=True)
class Cell:
    """Calls in order, on a port that no other cell has; `about` says in a few words what of."""

    about: str
    calls: tuple[Call, ...]


def predict(cell: Cell, rulebook: Rulebook) -> Iterator[Answer]:
    """What the model answers to each call of a cell, one after the other."""
    world = World(rulebook, HOSTS)
    for call in cell.calls:
        answer, world = carry_out(world, call)
        yield answer
