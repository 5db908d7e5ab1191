"""Which rules a kernel has, by its version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.rules.call_rules import CALL_CHECKS
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

if TYPE_CHECKING:
    from labs.engine.rules.rule import CallCheck, Check, Recall, Share, Version

RULES = tuple(
    dict.fromkeys(
        (
            *(*IPV4_CHECKS, *IPV6_CHECKS, *RECALLS, *TCP_SHARES, *UDP_SHARES, *CALL_CHECKS),
            *(TAKEN, FREE, SOME_PORT_FREE, PLAIN),
        )
    )
)
"""All rules that any kernel has, each once."""


@dataclass(frozen=True)
class Rulebook:
    """The rules of one kernel, each kind in the kernel's order.

    It `knows_first` if it sees that a socket is the first on its port. Since 6.8 it does not: the
    port has an entry for the socket's address before it is looked at. It `keeps_owner` if a
    connection that no process has, be it not yet accepted or closed, has an owner all the same: its
    listener's, or its last one. It has since 6.17; before, it has none. It `hashes_connected` if a
    UDP socket that connects is then found by both of its ends, and no more in its group: since
    6.13. It `keeps_closed` if a TCP socket has its group for good: since 5.14. Before, it lost it
    by a refused connect(), and as long as it had one, SO_ATTACH_REUSEPORT_CBPF did not ask for
    SO_REUSEPORT.
    """

    version: Version
    ipv4_checks: tuple[Check, ...]
    ipv6_checks: tuple[Check, ...]
    recalls: tuple[Recall, ...]
    tcp_shares: tuple[Share, ...]
    udp_shares: tuple[Share, ...]
    call_checks: tuple[CallCheck, ...]
    knows_first: bool
    keeps_owner: bool
    hashes_connected: bool
    keeps_closed: bool


def rules_of(version: Version) -> Rulebook:
    """The rules that a kernel of this version has."""
    return Rulebook(
        version,
        tuple(rule for rule in IPV4_CHECKS if rule.is_in(version)),
        tuple(rule for rule in IPV6_CHECKS if rule.is_in(version)),
        tuple(rule for rule in RECALLS if rule.is_in(version)),
        tuple(rule for rule in TCP_SHARES if rule.is_in(version)),
        tuple(rule for rule in UDP_SHARES if rule.is_in(version)),
        tuple(rule for rule in CALL_CHECKS if rule.is_in(version)),
        knows_first=version < (6, 8),
        keeps_owner=version >= (6, 17),
        hashes_connected=version >= (6, 13),
        keeps_closed=version >= (5, 14),
    )


def read_version(release: str) -> Version:
    """A kernel's version from its release: (6, 18, 44) of 6.18.44-name; ValueError without one."""
    numbers: list[int] = []
    for part in release.split("-", maxsplit=1)[0].split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    if len(numbers) < 2:
        raise ValueError(f"{release} is no kernel's release")
    return tuple(numbers)
