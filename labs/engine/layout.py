"""Which ports, uids and addresses a run uses: fixed ones, or others for each seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.errors import LabError
from labs.engine.plans import UNPRIVILEGED_PORT_START, HostPlan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random
    from typing import TypeVar

    Item = TypeVar("Item")

ROOT = "root"
# Users who are no invention of the lab: Debian's account of web servers (base-passwd) is for a
# server that takes its users by the name of an account alone.
ACCOUNTS = {ROOT: 0, "www-data": 33}
FIRST_UID = 64_001
FIRST_NETWORK = 77

# A seed draws ports below the ephemeral range (ip_local_port_range starts at 32,768), and uids
# that are mapped and neither root nor nobody.
PORTS = range(2_000, 30_000)
LOW_PORTS = range(1, UNPRIVILEGED_PORT_START)
UIDS = range(1_000, 65_000)
NETWORKS = range(1, 255)


class Layout:
    """Gives each name its number; the same seed and the same order of asking, the same numbers."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self._random = None if seed is None else make_random(seed)
        self._network = self._random.choice(NETWORKS) if self._random else FIRST_NETWORK
        self._ports: dict[int, int] = {}
        self._uids = dict(ACCOUNTS)
        self._hosts: list[str] = []
        if self._random:
            # The two that every lab knows, first, so that they do not depend on who comes when.
            for user in ("alice", "bob"):
                self.uid(user)

    def port(self, usual: int) -> int:
        """The port that stands for `usual` in this run, one below 1024 for one below 1024."""
        if usual not in self._ports:
            taken = set(self._ports.values())
            numbers = LOW_PORTS if usual in LOW_PORTS else PORTS
            self._ports[usual] = self._draw(numbers, taken) if self._random else usual
        return self._ports[usual]

    def uid(self, user: str) -> int:
        """The uid of a user of the lab."""
        if user not in self._uids:
            taken = set(self._uids.values())
            fixed = {"alice": FIRST_UID, "bob": FIRST_UID + 1}
            others = FIRST_UID + 2 + sum(name not in (*ACCOUNTS, *fixed) for name in self._uids)
            self._uids[user] = self._draw(UIDS, taken) if self._random else fixed.get(user, others)
        return self._uids[user]

    def shuffled(self, items: Iterable[Item]) -> list[Item]:
        """Some items in the order of this run: as they are given, without a seed."""
        order = list(items)
        if self._random:
            self._random.shuffle(order)
        return order

    def user(self, uid: int) -> str:
        """The name of the user with this uid; the number itself where the lab has no such user."""
        return next((name for name, number in self._uids.items() if number == uid), str(uid))

    def users(self) -> dict[str, int]:
        """The uid of each user that was asked for, and of the accounts that every run has."""
        return dict(self._uids)

    def ports(self) -> dict[int, int]:
        """The ports that were asked for, each with the one that stands for it."""
        return dict(self._ports)

    def host(self, name: str) -> HostPlan:
        """The next host: 10.N.0.0/16 and fd00:N::/64, counted from 1."""
        if name in self._hosts:
            raise LabError(f"There are two hosts named {name}.")
        self._hosts.append(name)
        number = len(self._hosts)
        return HostPlan(
            name,
            ipv4=f"10.{self._network}.{number // 250}.{number % 250 + 1}",
            ipv4_prefix=16,
            ipv6=f"fd00:{self._network:x}::{number:x}",
            ipv6_prefix=64,
        )

    def _draw(self, numbers: range, taken: set[int]) -> int:
        assert self._random is not None
        while (number := self._random.choice(numbers)) in taken:
            pass
        return number


def make_random(seed: int) -> Random:
    """A generator that draws the same numbers for the same seed on every machine."""
    from random import Random

    return Random(seed)
