"""The seam of a class: whatever runs a lab for one learner in a container, on one engine or many.

A lab's own outcome is data in what a container prints. Only what keeps that from coming is an error
of a cluster's: a container that ends without it, a node that is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Assignment:
    """What one container is to run: a lab, with the ports, uids and addresses of a seed."""

    lab: str
    seed: int


@dataclass(frozen=True)
class Delivered:
    """An attempt's container has ended in peace on a node; `text` is what it printed."""

    attempt: str
    node: str
    text: str


@dataclass(frozen=True)
class Lost:
    """Nothing will come of an attempt, and why: its container has died, or its node has gone."""

    attempt: str
    node: str
    reason: str


@dataclass(frozen=True)
class Unfit:
    """A node could not even begin, as none of its attempts could: why, and what mends it."""

    attempt: str
    node: str
    reason: str
    hint: str


Ended: TypeAlias = "Delivered | Lost | Unfit"


class Cluster(Protocol):
    """Runs assignments, each in a container of its own that is removed when its attempt has ended.

    Its methods raise CannotRun where no node can run anything, and EngineError where the engine
    does not answer that is talked to.
    """

    def count_slots(self) -> int:
        """How many attempts at once make sense: as many as the nodes have processors."""

    def start(self, assignment: Assignment) -> str:
        """Begin an attempt, without waiting for it; its name, which no other attempt has."""

    def wait(self, seconds: float) -> Sequence[Ended]:
        """Attempts that have ended and were not told before, each once.

        Returns as soon as there is one, or with none after so many seconds.
        """

    def end(self, attempt: str) -> None:
        """Give an attempt up: its container goes, and nothing more is told of it.

        One that has ended already, or was given up, may be given up again.
        """

    def leave_out(self, node: str, reason: str, hint: str) -> None:
        """Start nothing on a node any more; CannotRun, for this reason, where it was the last."""
