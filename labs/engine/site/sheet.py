"""The rules of bind() as a page of Markdown: tables to keep beside the desk, then each rule.

What the tables say is the model's answer to cells that `rules.verify` asks of kernels too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.rules.call_rules import CALL_CHECKS
from labs.engine.rules.calls import Bind, Listen
from labs.engine.rules.rule import CallCheck, Check
from labs.engine.rules.rulebook import rules_of
from labs.engine.rules.rules import (
    FREE,
    IPV4_CHECKS,
    IPV6_CHECKS,
    PLAIN,
    RECALLS,
    SOME_PORT_FREE,
    TAKEN,
    TCP_SHARES,
    UDP_SHARES,
)
from labs.engine.translation import read_translation
from labs.engine.verification import makers
from labs.engine.verification.cell import ALICE, BOB, predict
from labs.engine.verification.makers import MINE
from labs.engine.verification.table import make_pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from labs.engine.rules.calls import User
    from labs.engine.rules.rule import Rule, Version
    from labs.engine.rules.world import Answer
    from labs.engine.verification.cell import Cell
    from labs.engine.verification.makers import Maker, Options, Spot

ENGINE = Path(__file__).parents[1]
VERSION: Version = (7, 2)  # the tables hold for all kernels; which rule decides, for this one
PORT = 8080


@dataclass(frozen=True)
class Newcomer:
    """Who asks for the port: with which options, as which user; `head` is its column's."""

    head: str
    options: Options
    user: User


@dataclass(frozen=True)
class Occupant:
    """Who is on the port; by whichever of its makers it came, the answers are the same."""

    head: str
    makers: Sequence[Maker]


NEWCOMERS = (
    Newcomer("comes with nothing", makers.PLAIN, BOB),
    Newcomer("with RA", makers.RA, BOB),
    Newcomer("with RP, same owner", makers.RP, ALICE),
    Newcomer("with RP, other owner", makers.RP, BOB),
    Newcomer("with RA+RP, same owner", makers.BOTH, ALICE),
    Newcomer("with RA+RP, other owner", makers.BOTH, BOB),
)
OCCUPANTS = (
    Occupant(
        "TCP, bound or connected",
        (makers.BOUND_TCP, makers.ACCEPTED, makers.AS_CLIENT),
    ),
    Occupant("TCP, listening", (makers.LISTENING, makers.QUEUED)),
    Occupant("TCP, closed (TIME_WAIT)", (makers.ENDED, makers.HALF)),
    Occupant("UDP, bound or connected", (makers.BOUND_UDP, makers.CONNECTED_UDP)),
)
HELD_OPTIONS = (makers.PLAIN, makers.RA, makers.RP, makers.BOTH)
SPOTS = (
    *(makers.ANY4, makers.ONE4, makers.TWO4, makers.ANY6, makers.ANY6_ONLY),
    *(makers.ONE6, makers.MAPPED),
)
GROUPS: Sequence[tuple[str, Sequence[Rule]]] = (
    ("Before the port is looked at", (*IPV4_CHECKS, *IPV6_CHECKS)),
    ("What the port remembers", RECALLS),
    ("Who may be there together", (*TCP_SHARES, *UDP_SHARES)),
    ("What is left", (TAKEN, FREE, SOME_PORT_FREE)),
    ("Other calls", (*CALL_CHECKS, PLAIN)),
)


def pair_on_one_address(maker: Maker, theirs: Options, newcomer: Newcomer) -> Cell:
    """Somebody is on an address and port, and a newcomer asks for the same."""
    spots = (makers.ONE4, makers.ONE4)
    return make_pair(maker, spots, (theirs, newcomer.options), newcomer.user, PORT)


def pair_of_addresses(theirs: Spot, mine: Spot) -> Cell:
    """Somebody listens without an option, and another socket asks for the port somewhere."""
    return make_pair(makers.LISTENING, (theirs, mine), (makers.PLAIN, makers.PLAIN), ALICE, PORT)


def answer_newcomer(cell: Cell, version: Version = VERSION) -> Answer:
    """What the newcomer is answered: its first refusal, or what lets it in at bind()."""
    answers = [
        answer
        for call, answer in zip(cell.calls, predict(cell, rules_of(version)), strict=True)
        if isinstance(call, Bind | Listen) and call.socket == MINE
    ]
    return next((answer for answer in answers if answer.errno), answers[0])


class Sheet:
    """The page, in one language."""

    def __init__(self, language: str) -> None:
        self._say = read_translation(Path(__file__).parent, language).text
        self._rephrase = read_translation(ENGINE / "rules", language).text

    def write(self) -> str:
        """The whole page."""
        blocks = [*self._begin(), *self._tabulate_options(), *self._tabulate_addresses()]
        blocks += self._list_differences()
        for title, rules in GROUPS:
            blocks += [f"## {self._say(title)}", *self._list_rules(rules)]
        return "\n\n".join(blocks) + "\n"

    def _begin(self) -> Iterator[str]:
        yield f"# {self._say('The rules of bind()')}"
        yield self._say(
            "A `bind()` is accepted when, for each socket that is on the port in the same network "
            "namespace and with the same protocol, some rule lets the two be there together. "
            "`listen()` asks once more. Root is a user like any other."
        )
        yield self._say(
            "RA is SO_REUSEADDR, RP is SO_REUSEPORT. A socket's owner is the user as whom it was "
            "made, or to whom `fchown()` gave it."
        )
        yield self._say(
            "This page is made of the model by `invoke docs.rules`; `invoke rules.verify` "
            "[asks kernels]({findings}) whether the model is right, for these answers among "
            "thousands of others. `invoke lab.euid` shows the rule that surprises most.",
            {"findings": "rules.md"},
        )

    def _tabulate_options(self) -> Iterator[str]:
        yield f"## {self._say('On the same address')}"
        yield self._say(
            "Who is there, with what, and whether one that comes with the same "
            "protocol may bind and listen; each yes leads to its rule."
        )
        heads = [self._say("there"), self._say("has"), *(self._say(one.head) for one in NEWCOMERS)]
        yield tabulate(
            heads,
            (
                [
                    self._say(occupant.head),
                    self._say("nothing") if theirs == makers.PLAIN else str(theirs),
                    *(
                        self._show(pair_on_one_address(occupant.makers[0], theirs, newcomer))
                        for newcomer in NEWCOMERS
                    ),
                ]
                for occupant in OCCUPANTS
                for theirs in HELD_OPTIONS
            ),
        )
        yield self._say(
            "Of several sockets on the port each has to agree. Of two that are bound with RA one "
            "can listen: its `listen()` is accepted, and the other's is refused from then on."
        )

    def _tabulate_addresses(self) -> Iterator[str]:
        yield f"## {self._say('On different addresses')}"
        yield self._say(
            "Whether two TCP sockets without RA and RP may be on one port, where the one that is "
            "there listens."
        )
        yield tabulate(
            [self._say("there, and who comes"), *(f"`{spot}`" for spot in SPOTS)],
            (
                [f"`{theirs}`", *(self._show(pair_of_addresses(theirs, mine)) for mine in SPOTS)]
                for theirs in SPOTS
            ),
        )

    def _show(self, cell: Cell) -> str:
        answer = answer_newcomer(cell)
        if answer.errno:
            return self._say("no")
        return f"[{self._say('yes')}](#{answer.rule.name})"

    def _list_differences(self) -> Iterator[str]:
        yield f"## {self._say('Where kernels differ')}"
        yield self._say(
            "The tables above hold for all kernels from 5.10 on. These rules do not; "
            "[the findings]({findings}) say what was measured, and what else kernels keep of a "
            "socket or a port, or do not.",
            {"findings": "rules.md"},
        )
        rules = [rule for _, group in GROUPS for rule in group if rule.since or rule.until]
        yield tabulate(
            [self._say("rule"), self._say("kernels")],
            ([f"[{rule.name}](#{rule.name})", self._name_kernels(rule)] for rule in rules),
        )

    def _list_rules(self, rules: Iterable[Rule]) -> Iterator[str]:
        for rule in dict.fromkeys(rules):
            yield f"### {rule.name}"
            yield self._rephrase(rule.sentence)
            facts = [f"`{rule.source}`"]
            if isinstance(rule, Check | CallCheck):
                facts.insert(0, f"**{rule.errno}**")
            if rule is TAKEN:
                facts.insert(0, "**EADDRINUSE**")
            if rule.since or rule.until:
                facts.append(self._name_kernels(rule))
            yield " · ".join(facts)

    def _name_kernels(self, rule: Rule) -> str:
        limits = {
            "since": ".".join(map(str, rule.since)),
            "until": ".".join(map(str, rule.until)),
        }
        if not rule.until:
            return self._say("since {since}", limits)
        if not rule.since:
            return self._say("before {until}", limits)
        return self._say("since {since}, before {until}", limits)


def tabulate(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
