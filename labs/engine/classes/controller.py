"""Brings every learner of a class exactly one result, whatever the cluster's nodes do."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs.engine.classes.cluster import Assignment, Delivered, Lost, Unfit
from labs.engine.classes.result import Result, read_delivery
from labs.engine.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from labs.engine.classes.cluster import Cluster, Ended
    from labs.engine.classes.roster import Learner

ATTEMPTS = 3  # a learner's; those that a node could not even begin are not counted
LOOK = 1.0  # seconds: the longest wait for news, between two looks at the deadlines


@dataclass(frozen=True)
class Limits:
    """How many attempts at once, how long each may take, in seconds, and how many a learner has."""

    jobs: int
    seconds: float
    attempts: int = ATTEMPTS


@dataclass(frozen=True)
class Attempt:
    """A learner's attempt, `number` counted from 1, and when it was started."""

    learner: Learner
    number: int = 1
    started: float = 0.0


class Controller:
    """Sends assignments to a cluster and takes the first result of each learner's.

    `notice` is told in a sentence what the cluster did not do, and a hint; `clock` counts seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        limits: Limits,
        notice: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._limits = limits
        self._notice = notice
        self._clock = clock
        self._waiting: deque[Attempt] = deque()
        self._running: dict[str, Attempt] = {}
        self._left_out_at: dict[str, float] = {}  # nodes, in the clock's seconds

    def run(self, lab: str, learners: Sequence[Learner]) -> Iterator[Result]:
        """Yield each learner's result as soon as there is one; raises as a cluster's methods do."""
        self._waiting.extend(map(Attempt, learners))
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._limits.jobs:
                attempt = replace(self._waiting.popleft(), started=self._clock())
                name = self._cluster.start(Assignment(lab, attempt.learner.seed))
                self._running[name] = attempt
            for ended in self._cluster.wait(self._next_look()):
                # One that was given up may still tell of its end: nobody waits for it any more.
                if ended_attempt := self._running.pop(ended.attempt, None):
                    yield from self._take(lab, ended_attempt, ended)
            yield from self._give_up_overdue()

    def _next_look(self) -> float:
        """How long there is to wait until a deadline may be over, in seconds."""
        first = min(attempt.started for attempt in self._running.values())
        return min(max(first + self._limits.seconds - self._clock(), 0.0), LOOK)

    def _take(self, lab: str, attempt: Attempt, ended: Ended) -> Iterator[Result]:
        """The result of an attempt that has ended, if it brought one or was the last."""
        match ended:
            case Delivered():
                assignment = Assignment(lab, attempt.learner.seed)
                try:
                    outcome = read_delivery(ended.text, assignment)
                except (ValueError, RecursionError) as error:
                    reason = f"what its container printed is no result: {error}"
                    yield from self._again(attempt, ended.node, reason)
                    return
                if outcome.record is None and outcome.status is ExitStatus.CANNOT_RUN:
                    yield from self._leave_out(attempt, ended.node, outcome.error, outcome.hint)
                    return
                if outcome.record is None:
                    yield from self._again(attempt, ended.node, outcome.error.rstrip("."))
                    return
                seconds = self._clock() - attempt.started
                name = attempt.learner.name
                yield Result(name, outcome, ended.node, seconds, attempt.number)
            case Lost():
                yield from self._again(attempt, ended.node, ended.reason)
            case Unfit():
                yield from self._leave_out(attempt, ended.node, ended.reason, ended.hint)

    def _leave_out(self, attempt: Attempt, node: str, reason: str, hint: str) -> Iterator[Result]:
        """Let another node have the attempt, and this one no more; CannotRun if it was the last.

        What a node was given before it was left out is nobody's attempt; what it gets after that,
        because the cluster knows it by another name, is one.
        """
        if node not in self._left_out_at:
            self._left_out_at[node] = self._clock()
            self._cluster.leave_out(node, reason, hint)
            self._notice(f"{node} is left out. {reason}", hint)
        if attempt.started > self._left_out_at[node]:
            yield from self._again(attempt, node, reason.rstrip("."))
        else:
            self._waiting.appendleft(attempt)

    def _give_up_overdue(self) -> Iterator[Result]:
        """Give up the attempts that have taken too long."""
        latest = self._clock() - self._limits.seconds
        overdue = [name for name, attempt in self._running.items() if attempt.started <= latest]
        for name in overdue:
            self._cluster.end(name)
            reason = f"no result within {self._limits.seconds:g} seconds"
            yield from self._again(self._running.pop(name), "", reason)

    def _again(self, attempt: Attempt, node: str, reason: str) -> Iterator[Result]:
        """Let a learner have another attempt, or a row that says why there is no result."""
        name = attempt.learner.name
        if attempt.number < self._limits.attempts:
            self._waiting.append(replace(attempt, number=attempt.number + 1))
            self._notice(f"{name} is sent again: {reason}.", "")
        else:
            yield Result(name, None, node, attempts=attempt.number, reason=f"{reason}.")
