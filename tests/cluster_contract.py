"""What every cluster of a class promises: one suite, run against each implementation.

A module for one cluster has a class that derives from ClusterContract, and a fixture `cluster`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from labs.engine.classes.cluster import Assignment, Delivered
from labs.engine.classes.controller import Controller, Limits
from labs.engine.classes.result import read_delivery
from labs.engine.classes.roster import Learner
from labs.engine.errors import CannotRun, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.classes.cluster import Cluster, Ended

LAB = "euid"
SLOW_LAB = "scale"  # takes some seconds, in which it measures
PATIENCE = 60.0  # seconds: for a container on a busy machine
AT_ONCE = 4


def wait_for(cluster: Cluster, count: int) -> Sequence[Ended]:
    """Wait until so many attempts have ended."""
    told: list[Ended] = []
    end = time.monotonic() + PATIENCE
    while len(told) < count:
        assert time.monotonic() < end, f"{len(told)} of {count} have ended"
        told += cluster.wait(1.0)
    return told


class ClusterContract:
    """The suite."""

    def test_it_has_room_for_one_at_least(self, cluster: Cluster) -> None:
        assert cluster.count_slots() >= 1

    def test_an_assignment_brings_its_outcome_from_a_node(self, cluster: Cluster) -> None:
        assignment = Assignment(LAB, Learner("Ada").seed)
        attempt = cluster.start(assignment)
        (ended,) = wait_for(cluster, 1)
        assert isinstance(ended, Delivered), ended
        assert ended.attempt == attempt
        assert ended.node
        outcome = read_delivery(ended.text, assignment)
        assert outcome.record is not None
        # The fake does otherwise than a kernel would at some steps.
        assert outcome.status in (ExitStatus.PASSED, ExitStatus.DIFFERS), outcome.error
        assert outcome.steps[1] > 1

    def test_several_at_once_are_told_once_each(self, cluster: Cluster) -> None:
        assignments = {cluster.start(Assignment(LAB, seed)): seed for seed in range(AT_ONCE)}
        assert len(assignments) == AT_ONCE
        for ended in wait_for(cluster, AT_ONCE):
            assert isinstance(ended, Delivered), ended
            read_delivery(ended.text, Assignment(LAB, assignments.pop(ended.attempt)))
        assert cluster.wait(0.2) == []

    def test_of_one_that_is_given_up_nothing_is_told(self, cluster: Cluster) -> None:
        given_up, other = (cluster.start(Assignment(LAB, seed)) for seed in (1, 2))
        cluster.end(given_up)
        assert [ended.attempt for ended in wait_for(cluster, 1)] == [other]
        assert cluster.wait(0.5) == []

    def test_what_is_over_may_be_given_up(self, cluster: Cluster) -> None:
        attempt = cluster.start(Assignment(LAB, 1))
        wait_for(cluster, 1)
        cluster.end(attempt)
        cluster.end(attempt)
        cluster.end("no attempt of this cluster's")

    def test_without_news_it_returns_in_time(self, cluster: Cluster) -> None:
        begin = time.monotonic()
        assert cluster.wait(0.1) == []
        assert time.monotonic() - begin < PATIENCE / 10

    def test_that_a_lab_fails_is_an_outcome(self, cluster: Cluster) -> None:
        assignment = Assignment("nothing", 1)
        cluster.start(assignment)
        (ended,) = wait_for(cluster, 1)
        assert isinstance(ended, Delivered), ended
        outcome = read_delivery(ended.text, assignment)
        assert outcome.status is ExitStatus.FAILED
        assert "cannot be loaded" in outcome.error

    def test_without_its_last_node_it_says_why(self, cluster: Cluster) -> None:
        cluster.start(Assignment(LAB, 1))
        (ended,) = wait_for(cluster, 1)
        nodes = {ended.node}
        with pytest.raises(CannotRun, match="It is full") as caught:
            while True:
                for node in nodes:
                    cluster.leave_out(node, "It is full.", "make room")
                cluster.start(Assignment(LAB, 1))
                nodes = {ended.node for ended in wait_for(cluster, 1)}
        assert caught.value.hint == "make room"

    def test_a_class_has_a_result_for_everybody(self, cluster: Cluster) -> None:
        learners = [Learner(f"learner {number}") for number in range(5)]
        notices: list[str] = []
        controller = Controller(
            cluster, Limits(2, PATIENCE), lambda text, _hint: notices.append(text)
        )
        results = [*controller.run(LAB, learners)]
        assert sorted(result.learner for result in results) == [one.name for one in learners]
        assert all(result.outcome and result.attempts == 1 for result in results)
        assert notices == []
