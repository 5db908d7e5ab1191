"""Measures the rules: how many binds the model answers, and how many cells a kernel is asked."""

from __future__ import annotations

from time import process_time
from typing import TYPE_CHECKING

from labs.engine.bench_rows import Comparison, NotMeasured
from labs.engine.kernels.matrix import HOST, choose_columns
from labs.engine.rules.calls import Bind, Listen, Open, Option, SetOption, User
from labs.engine.rules.host import Host
from labs.engine.rules.model import carry_out
from labs.engine.rules.rulebook import rules_of
from labs.engine.rules.sockets import Family, Protocol
from labs.engine.rules.world import World
from labs.engine.verification.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.verification.comparison import Comparison as Verification

LEAST_BINDS = 200_000  # a second
LEAST_CELLS = 2_000  # a second
HERE_LIMIT = 10.0  # seconds
INSIDE_LIMIT = 60.0  # seconds
BINDS = 20_000
BINDS_ROUNDS = 15
PORT = 8080
KERNEL = "6.12"


def compare_rules() -> Iterator[Comparison | NotMeasured]:
    """The model's answers, then the table here and in a guest."""
    yield at_least("binds a second by the model : least", measure_binds(), LEAST_BINDS)
    here, inside = choose_columns(f"{HOST},{KERNEL}")
    verification = verify(here)
    yield compare_whole("rules.verify, the whole table : limit", verification, HERE_LIMIT)
    if not verification.problem:
        rate = verification.cells / verification.seconds
        yield at_least("cells a second of rules.verify : least", rate, LEAST_CELLS)
    yield compare_whole(f"rules.verify in {KERNEL} : limit", verify(inside), INSIDE_LIMIT)


def at_least(name: str, found: float, least: int) -> Comparison:
    """How much there was of something, and how much is wanted."""
    return Comparison(
        name=name,
        ours=f"{found:,.0f}",
        other=f"{least:,}",
        ratio=found / least,
        limit=">=1",
        within=found >= least,
    )


def compare_whole(name: str, verification: Verification, limit: float) -> Comparison | NotMeasured:
    """How long all cells took to be measured and compared; none may differ."""
    if verification.problem:
        return NotMeasured(name, verification.problem)
    return Comparison(
        name=name,
        ours=f"{verification.seconds:.1f} s",
        other=f"{limit:g} s",
        ratio=verification.seconds / limit,
        limit="<=1",
        within=verification.seconds <= limit and not verification.mismatches,
    )


def measure_binds() -> float:
    """How many binds a second the model answers, with one listener there, by a stranger to it.

    The best round in seconds of this process: what else the machine does can only add to them.
    """
    alice, bob = User("alice", 64_001, "one"), User("bob", 64_002, "one")
    world = World(rules_of((6, 18)), {"one": Host(frozenset())})
    for call in (
        Open(alice, "A", Protocol.TCP, Family.IPV4),
        SetOption(alice, "A", Option.REUSEPORT),
        Bind(alice, "A", "127.0.0.1", PORT),
        Listen(alice, "A"),
        Open(bob, "B", Protocol.TCP, Family.IPV4),
        SetOption(bob, "B", Option.REUSEPORT),
    ):
        _, world = carry_out(world, call)
    asked = Bind(bob, "B", "0.0.0.0", PORT)
    seconds = []
    for _ in range(BINDS_ROUNDS):
        start = process_time()
        for _ in range(BINDS):
            world.answer_bind(asked)
        seconds.append(process_time() - start)
    return BINDS / min(seconds)
