"""A cluster without engines, for tests and plans: labs run on the fake backend, when asked to wait.

Nothing happens by itself: each wait() lets one attempt come to its end, the oldest first, and time
passes only while there is nothing to tell.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING

from labs.engine.backends.fake import FakeBackend
from labs.engine.classes.cluster import Delivered, Lost, Unfit
from labs.engine.classes.seat import run_assignment
from labs.engine.errors import CannotRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.classes.cluster import Assignment, Ended

MISSING = "It has no image."


class FakeCluster:
    """Nodes that take attempts by turns; those that are `lacking` have no image.

    With `twice` it tells of each end twice, as no cluster should.
    """

    def __init__(self, *nodes: str, lacking: Sequence[str] = (), twice: bool = False) -> None:
        self.now = 0.0
        self.started: list[Assignment] = []
        self._nodes = deque(nodes or ("fake",))
        self._lacking = {*lacking}
        self._times = 2 if twice else 1
        self._texts: deque[str] = deque()
        self._silent: set[str] = set()
        self._running: dict[str, tuple[Assignment, str]] = {}
        self._told: deque[Ended] = deque()

    # --- what a cluster does ---

    def count_slots(self) -> int:
        """See `Cluster.count_slots`: one a node."""
        return len(self._nodes)

    def start(self, assignment: Assignment) -> str:
        """See `Cluster.start`."""
        self.started.append(assignment)
        attempt = f"attempt-{len(self.started)}"
        self._running[attempt] = assignment, self._nodes[0]
        self._nodes.rotate(-1)
        return attempt

    def wait(self, seconds: float) -> Sequence[Ended]:
        """See `Cluster.wait`."""
        if not self._told:
            self._finish_next()
        if not self._told:
            self.now += seconds
        told = [*self._told]
        self._told.clear()
        return told

    def end(self, attempt: str) -> None:
        """See `Cluster.end`."""
        self._running.pop(attempt, None)

    def leave_out(self, node: str, reason: str, hint: str) -> None:
        """See `Cluster.leave_out`."""
        self._nodes.remove(node)
        if not self._nodes:
            raise CannotRun(reason, hint)

    # --- what tests do with it ---

    def kill(self, node: str) -> None:
        """Let a node go, with all that runs on it."""
        self._nodes.remove(node)
        for attempt in self._find_on(node):
            del self._running[attempt]
            self._told.append(Lost(attempt, node, f"{node} is down"))

    def silence(self, node: str) -> None:
        """Let nothing come of what runs on a node, without a word."""
        self._silent.add(node)

    def print_next(self, text: str) -> None:
        """Let the next attempt that comes to its end print this, and not its lab's outcome."""
        self._texts.append(text)

    def _find_on(self, node: str) -> list[str]:
        return [attempt for attempt, (_, place) in self._running.items() if place == node]

    def _finish_next(self) -> None:
        """Let the oldest attempt whose node is not silent come to its end."""
        heard = [name for name, (_, node) in self._running.items() if node not in self._silent]
        if not heard:
            return
        assignment, node = self._running.pop(heard[0])
        if node in self._lacking:
            self._told.append(Unfit(heard[0], node, MISSING, "docker load"))
            return
        if self._texts:
            text = self._texts.popleft()
        else:
            outcome = run_assignment(assignment, nullcontext(FakeBackend()))
            text = json.dumps(outcome.to_json())
        self._told += [Delivered(heard[0], node, text)] * self._times
