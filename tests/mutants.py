"""Rulebooks that are wrong, each in one rule, for tests of what finds such faults."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from labs.engine.rules.rule import CallCheck, Check, Recall, Rule, Share
from labs.engine.rules.rulebook import Rulebook, read_version, rules_of
from labs.engine.rules.rules import RECALLS, TCP_SHARES
from labs.engine.verification.comparison import find_mismatches
from labs.engine.verification.measuring import Errnos
from labs.engine.verification.table import make_table

KINDS = ("ipv4_checks", "ipv6_checks", "recalls", "tcp_shares", "udp_shares", "call_checks")


def survivors(release: str, answered: Sequence[Errnos]) -> list[str]:
    """The mutants of a kernel's rules in which its answers to the table find no fault."""
    found = [*mutants(rules_of(read_version(release)))]
    assert len(found) > 50
    return [name for name, rulebook in found if not is_caught(rulebook, answered)]


def is_caught(rulebook: Rulebook, answered: Sequence[Errnos]) -> bool:
    """Whether a mismatch is found, or the model comes to a socket that there is not."""
    try:
        return next(find_mismatches(make_table(), answered, rulebook), None) is not None
    except KeyError:
        return True


def mutants(rulebook: Rulebook) -> Iterator[tuple[str, Rulebook]]:
    """Each rule dropped and inverted in turn; and what other kernels do, done by this one."""
    for kind in KINDS:
        rules: tuple[Rule, ...] = getattr(rulebook, kind)
        for index, rule in enumerate(rules):
            before, after = rules[:index], rules[index + 1 :]
            yield f"{kind} without {rule.name}", changed(rulebook, kind, (*before, *after))
            inverted = (*before, invert(rule), *after)
            yield f"{kind} with {rule.name} inverted", changed(rulebook, kind, inverted)
    yield "not knows_first", replace(rulebook, knows_first=not rulebook.knows_first)
    yield "not keeps_owner", replace(rulebook, keeps_owner=not rulebook.keeps_owner)
    hashes = not rulebook.hashes_connected
    yield "not hashes_connected", replace(rulebook, hashes_connected=hashes)
    yield "not keeps_closed", replace(rulebook, keeps_closed=not rulebook.keeps_closed)
    for share in TCP_SHARES:
        if share not in rulebook.tcp_shares:
            shares = (share, *rulebook.tcp_shares)
            yield f"tcp_shares with {share.name}", replace(rulebook, tcp_shares=shares)
    if rulebook.recalls != RECALLS:
        # A kernel can only recall what it has noted.
        yield "all recalls", replace(rulebook, recalls=RECALLS, knows_first=True)
    others = tuple(replace(share, is_final=False) for share in rulebook.udp_shares)
    yield "no share is final", replace(rulebook, udp_shares=others)


def changed(rulebook: Rulebook, kind: str, rules: tuple[Rule, ...]) -> Rulebook:
    changes: dict[str, Any] = {kind: rules}
    return replace(rulebook, **changes)


def invert(rule: Rule) -> Rule:
    """The rule with the opposite answer."""
    match rule:
        case Check():
            return replace(rule, refuses=negate(rule.refuses))
        case CallCheck():
            return replace(rule, refuses=negate(rule.refuses))
        case Recall():
            return replace(rule, admits=negate(rule.admits))
        case Share():
            return replace(rule, admits=negate(rule.admits))
    raise TypeError(rule)


def negate(decides: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *arguments: not decides(*arguments)
