"""`invoke clean` removes exactly what carries our label and whose run is over, and says what.

It removes what any run has left, so all tests that look at what it says are here, one at a time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker import cleaning
from labs.engine.backends.docker.client import allowed_to_go
from labs.engine.backends.docker.images import find_base
from labs.engine.backends.docker.labels import CLIENT, RUN, describe_process
from labs.engine.errors import ExitStatus
from tests.docker.traces import SOON, find_of_client, find_things, seeds
from tests.endings import PROMPT, SUMMARY
from tests.support import describe_ended_process, ended, new_token, open_terminal, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from labs.engine.backends.docker.client import APIClient
    from tests.docker.pauses import Paused
    from tests.support import Finished

pytestmark = pytest.mark.docker

MARK = "bindlab-test"  # of all that these tests make, whatever else it carries
ELSEWHERE = "0c9d5d4e-0000-0000-0000-000000000000 4026531836 4711 123456"
NOTHING = "Nothing to clean: no run that is over has left anything.\n"


@dataclass
class Made:
    """What a test has made on the engine, all of it with a mark of its own."""

    engine: APIClient
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    count: int = 0

    def container(
        self, labels: Mapping[str, str], *, runs: bool = False, network: str = "none"
    ) -> str:
        """A container; as `clean` names it."""
        name = self._new_name()
        made = self.engine.create_container(
            find_base(self.engine),
            ["sleep", "1000"],
            name=name,
            labels={MARK: self.mark, **labels},
            stop_signal="SIGKILL",
            host_config=self.engine.create_host_config(network_mode=network),
        )
        if runs:
            self.engine.start(made["Id"])
        return f"container {name}"

    def network(self, labels: Mapping[str, str]) -> str:
        """A network; as `clean` names it."""
        name = self._new_name()
        self.engine.create_network(name, internal=True, labels={MARK: self.mark, **labels})
        return f"network {name}"

    def volume(self, labels: Mapping[str, str]) -> str:
        """A volume."""
        name = self._new_name()
        self.engine.create_volume(name, labels={MARK: self.mark, **labels})
        return f"volume {name}"

    def find(self) -> list[str]:
        """What is still there."""
        return find_things(self.engine, MARK, self.mark)

    def remove(self) -> None:
        """Remove all of it."""
        for thing in self.find():
            kind, name = thing.split()
            with allowed_to_go():
                if kind == "container":
                    self.engine.remove_container(name, force=True)
                elif kind == "network":
                    self.engine.remove_network(name)
                else:
                    self.engine.remove_volume(name)

    def _new_name(self) -> str:
        self.count += 1
        return f"bindlab-test-{self.mark}-{self.count}"


@pytest.fixture
def made(engine: APIClient) -> Iterator[Made]:
    things = Made(engine)
    try:
        yield things
    finally:
        things.remove()


def labels_of(client: str) -> dict[str, str]:
    """The labels of a new run of a client process."""
    return {RUN: uuid.uuid4().hex[:12], CLIENT: client}


@pytest.fixture
def over() -> dict[str, str]:
    """The labels of a run whose process has ended."""
    return labels_of(describe_ended_process())


@pytest.fixture
def living() -> Iterator[dict[str, str]]:
    """The labels of a run whose process lives."""
    process = subprocess.Popen(["sleep", "1000"])
    with ended(process):
        yield labels_of(describe_process(process.pid))


def removed_by(*done: Finished) -> set[str]:
    """What was said to be removed; each succeeded."""
    for one in done:
        assert one.status == ExitStatus.PASSED, one
        assert one.errors == ""
    lines = [line for one in done for line in one.output.splitlines()]
    return {line.removeprefix("removed ") for line in lines if line.startswith("removed ")}


# --- whose run is over --------------------------------------------------------------------


def test_what_a_run_that_is_over_has_left_is_removed(made: Made, over: dict[str, str]) -> None:
    network = made.network(over)
    left = [
        network,
        made.container(over),
        made.container(over, runs=True),
        made.container(over, runs=True, network=network.split()[1]),
    ]
    done = run("clean")
    assert removed_by(done) >= set(left)
    assert NOTHING not in done.output
    assert made.find() == []
    assert not removed_by(run("clean")) & set(left)


def test_what_belongs_to_a_run_that_lives_is_left(made: Made, living: dict[str, str]) -> None:
    left = {made.network(living), made.container(living), made.container(living, runs=True)}
    done = run("clean")
    assert not removed_by(done) & left
    assert "left alone: " in done.output
    assert set(made.find()) == left


def test_a_run_that_goes_on_meanwhile_is_none_the_worse(engine: APIClient) -> None:
    arguments = ("lab.euid", "--backend", "docker", "--seed", str(seeds.take(engine)), "--pause")
    with open_terminal(*arguments, token=new_token()) as terminal:
        while terminal.read_until(f"{PROMPT}|{SUMMARY}").group() == PROMPT:
            client = describe_process(terminal.process.pid)
            before = find_things(engine, CLIENT, client)
            assert before
            if terminal.output.count(PROMPT) in (1, 5):
                done = run("clean")
                assert not removed_by(done) & set(before)
                assert "left alone: " in done.output
            terminal.type("\n")
        assert terminal.wait() == ExitStatus.PASSED


def test_what_is_not_ours_is_left(made: Made) -> None:
    """Without our label, or with one that is like it."""
    foreign: Sequence[Mapping[str, str]] = [
        {},
        {"bindlab": "run"},
        {f"{RUN}s": "0123456789ab"},
        {f"com.example.{RUN}": "0123456789ab"},
        {"com.example.run": RUN},
        {CLIENT: ELSEWHERE},
    ]
    left = {
        *(made.container(labels) for labels in foreign),
        *(made.container(labels, runs=True) for labels in foreign[:2]),
        *(made.network(labels) for labels in foreign[:3]),
        made.volume({}),
    }
    assert not removed_by(run("clean")) & left
    assert set(made.find()) == left


def test_what_another_machine_may_still_need_is_left(made: Made) -> None:
    """It runs, or it was made just now. (Whether it is old: tests/unit/test_cleaning.py.)"""
    running, young = labels_of(ELSEWHERE), labels_of(ELSEWHERE)
    left = {
        made.container(running, runs=True),
        made.network(running),
        made.container(young),
        made.network(young),
    }
    done = run("clean")
    assert not removed_by(done) & left
    assert set(made.find()) == left


def test_a_container_that_is_paused_counts_as_running(made: Made, engine: APIClient) -> None:
    name = made.container(labels_of(ELSEWHERE), runs=True).split()[1]
    engine.pause(name)
    (item,) = [item for item in cleaning.find_items(engine) if item.name == name]
    assert item.is_running
    engine.unpause(name)


def test_a_paused_container_of_a_run_that_is_over_is_removed(
    made: Made, over: dict[str, str], engine: APIClient
) -> None:
    container = made.container(over, runs=True)
    engine.pause(container.split()[1])
    assert container in removed_by(run("clean"))
    assert made.find() == []


def test_what_is_left_when_both_were_killed_is_there_to_be_cleaned(
    paused: Paused, engine: APIClient
) -> None:
    """The containers that run end with their streams; the rest stays."""
    paused.terminal.type("\n")
    paused.terminal.read_until(PROMPT)  # by now all that the lab needs has been started
    for pid in (paused.watchdog, paused.terminal.process.pid):
        os.kill(pid, signal.SIGKILL)
    assert paused.terminal.wait() == -signal.SIGKILL
    running = {"label": [f"{CLIENT}={paused.client}"], "status": "running"}
    wait_until(lambda: engine.containers(filters=running) == [], "the containers' end", SOON)
    # A container that has ended may still be about to be removed by the engine.
    left = find_of_client(engine, paused.client)
    (network,) = [thing for thing in left if thing.startswith("network ")]
    done = run("clean")
    assert done.status == ExitStatus.PASSED
    assert f"removed {network}\n" in done.output
    assert find_of_client(engine, paused.client) == []


# --- in the way ---------------------------------------------------------------------------


def test_two_at_a_time_are_not_in_each_others_way(made: Made, over: dict[str, str]) -> None:
    left = {made.network(over), *(made.container(over, runs=number < 4) for number in range(8))}
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: run("clean"), range(2)))
    assert removed_by(*done) >= left
    assert made.find() == []


def test_what_somebody_else_needs_is_named_and_the_rest_is_removed(
    made: Made, engine: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else's container is taken off a network of ours, nor is it an obstacle to others."""
    stuck, other = labels_of(describe_ended_process()), labels_of(describe_ended_process())
    network = made.network(stuck)
    name = network.split()[1]
    foreign = made.container({}, runs=True, network=name)
    ours = [made.container(stuck, runs=True, network=name), made.container(other)]
    monkeypatch.setattr(cleaning, "PATIENCE", 2.0)
    cleaned = cleaning.clean(engine)
    assert {f"{item.kind} {item.name}" for item in cleaned.removed} >= set(ours)
    assert set(made.find()) == {network, foreign}
    (failure,) = [error for error in cleaned.failures if name in error.message]
    assert f"docker inspect {name}" in failure.hint
    engine.remove_container(foreign.split()[1], force=True)
    assert network in removed_by(run("clean"))
    assert made.find() == []


def test_a_label_without_a_value_is_not_every_run(
    made: Made, over: dict[str, str], living: dict[str, str]
) -> None:
    left = {made.network(living), made.container(living, runs=True)}
    odd = made.container(over | {RUN: ""})
    done = run("clean")
    assert odd in removed_by(done)
    assert set(made.find()) == left
