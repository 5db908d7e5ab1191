"""However a run of the docker backend is ended, nothing of it is left on the engine."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
from dataclasses import dataclass
from signal import SIGHUP, SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING, ClassVar

import pytest

from labs.engine.backends.docker import cleaning
from labs.engine.backends.docker.client import connected
from labs.engine.backends.docker.labels import RUN, RunLabels, describe_process, new_run
from labs.engine.backends.docker.watchdog import Watchdog, start_watchdog
from labs.engine.errors import ExitStatus
from tests.docker.traces import SOON, find_of_client, find_things, seeds
from tests.endings import (
    Course,
    Trial,
    Trials,
    check_interrupted,
    check_killed,
    ended_in_a_pause,
    interrupted,
    killed,
    on_terminal,
    press_control_c,
)
from tests.support import (
    Terminal,
    copy_tree,
    look,
    new_token,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from labs.engine.backends.docker.client import APIClient
    from tests.docker.pauses import Paused

pytestmark = pytest.mark.docker

AT_A_TIME = 3
KILLS = 30
MOMENTS = 6


@dataclass
class DockerTrial(Trial):
    """A run on the engine, on a network of its own.

    Two hosts and three processes take all that a lab takes of an engine; more of them would take
    longer.
    """

    client: str = ""  # its process, as its labels describe it

    lab: ClassVar[str] = "dualstack"
    patience: ClassVar[float] = SOON

    def options(self) -> tuple[str, ...]:
        with connected() as engine:
            return ("--backend", "docker", "--seed", str(seeds.take(engine)))

    def look_while_it_lives(self, process: subprocess.Popen[bytes]) -> None:
        self.client = describe_process(process.pid)
        super().look_while_it_lives(process)

    def wait_for_nothing(self) -> dict[str, list[str]]:
        """Of its processes; and of the engine's, as soon as the watchdog has ended."""
        left = super().wait_for_nothing()
        return left | ({"engine": things} if (things := self.find_things()) else {})

    def find_things(self) -> list[str]:
        """What the engine has of it."""
        assert self.client
        with connected() as engine:
            return find_of_client(engine, self.client)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def course(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("course")
    return Trials(lambda place: DockerTrial(tree, place), folder, AT_A_TIME).measure()


@pytest.fixture
def trials(tree: Path, tmp_path: Path) -> Iterator[Trials]:
    """Trials of which nothing is left; and of which nothing comes later either."""
    begun: list[DockerTrial] = []

    def begin(folder: Path) -> DockerTrial:
        begun.append(DockerTrial(tree, folder))
        return begun[-1]

    yield Trials(begin, tmp_path, AT_A_TIME)
    assert [trial.find_things() for trial in begun if trial.find_things()] == []


# --- the client, at any moment ------------------------------------------------------------


def test_sigkill_at_any_moment_leaves_nothing(trials: Trials, course: Course) -> None:
    check_killed(trials.end(killed(course), KILLS))


def test_sigkill_of_all_of_its_group_leaves_nothing(trials: Trials, course: Course) -> None:
    check_killed(trials.end(killed(course, whole_group=True), MOMENTS))


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_a_signal_at_any_moment_interrupts(number: Signals, trials: Trials, course: Course) -> None:
    check_interrupted(trials.end(interrupted(course, number), MOMENTS))


def test_a_closed_terminal_interrupts(trials: Trials, course: Course) -> None:
    check_interrupted(trials.end(on_terminal(Terminal.close, course), MOMENTS))


def test_control_c_interrupts(trials: Trials, course: Course) -> None:
    check_interrupted(trials.end(on_terminal(press_control_c, course), MOMENTS))


def test_control_c_ends_a_pause(trials: Trials) -> None:
    endings = trials.end(ended_in_a_pause, AT_A_TIME)
    check_interrupted(endings)
    assert not [ending for ending in endings if "observed" in ending.text]


# --- a run that pauses --------------------------------------------------------------------


def test_a_run_that_lives_is_seen(paused: Paused, engine: APIClient) -> None:
    """What the other tests find nothing of would be found."""
    kinds = {thing.split()[0] for thing in find_of_client(engine, paused.client)}
    assert kinds == {"container", "network"}
    seen = look(paused.token).beyond(paused.before)["processes"]
    assert {paused.terminal.process.pid, paused.watchdog} <= {int(one.split()[0]) for one in seen}
    paused.terminal.process.kill()
    wait_until(lambda: find_of_client(engine, paused.client) == [], "nothing is left", SOON)


def test_one_can_look_around_on_a_host(paused: Paused) -> None:
    (enter,) = re.findall(r"look around on server: +(docker exec .*)\n", paused.terminal.output)
    command = [word for word in shlex.split(enter) if word != "--tty"]
    done = subprocess.run(command, input="hostname", capture_output=True, text=True, check=True)
    assert done.stdout == "server\n"
    assert paused.go_on() == ExitStatus.PASSED


def test_without_its_watchdog_a_run_ends_well(paused: Paused, engine: APIClient) -> None:
    os.kill(paused.watchdog, signal.SIGKILL)
    assert paused.go_on() == ExitStatus.PASSED
    assert "bindlab: " not in paused.terminal.output


def test_without_its_watchdog_a_run_is_interrupted_as_with_it(paused: Paused) -> None:
    os.kill(paused.watchdog, signal.SIGKILL)
    paused.terminal.type("\x03")
    assert paused.terminal.wait() == ExitStatus.INTERRUPTED
    assert "Traceback" not in paused.terminal.output


def test_a_container_that_is_removed_meanwhile_is_no_obstacle(
    paused: Paused, engine: APIClient
) -> None:
    """As by an impatient `docker rm --force`: the run says what died, and leaves nothing."""
    names = [thing.split()[1] for thing in find_of_client(engine, paused.client)]
    (host,) = [name for name in names if name.endswith("-server")]
    engine.remove_container(host, force=True)
    paused.terminal.type("\n")
    assert paused.terminal.wait() == ExitStatus.FAILED
    assert "has died" in paused.terminal.output
    assert "Traceback" not in paused.terminal.output


# --- the watchdog -------------------------------------------------------------------------


def begin_to_make(name: str) -> tuple[Watchdog, RunLabels]:
    """The watchdog of a run whose client ended while the engine was making a thing."""
    labels = new_run()
    watchdog = start_watchdog(labels.run)
    watchdog._tell(f"+{name}\n")
    watchdog.let_go()
    return watchdog, labels


def test_the_watchdog_waits_for_what_was_under_way(engine: APIClient) -> None:
    name = f"bindlab-test-{new_token()}"
    watchdog, labels = begin_to_make(name)
    # It has long seen that there is nothing.
    assert not has_ended(watchdog, 1.0)
    engine.create_network(name, internal=True, labels=labels.as_dict())
    watchdog.wait()
    assert find_things(engine, RUN, labels.run) == []


def test_the_watchdog_does_not_wait_for_ever_for_what_never_comes(
    engine: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "LATEST", 0.5)
    watchdog, labels = begin_to_make("bindlab-test-never")
    watchdog.wait()
    assert find_things(engine, RUN, labels.run) == []


def has_ended(watchdog: Watchdog, seconds: float) -> bool:
    """Whether it ends within some seconds."""
    pidfd = os.pidfd_open(watchdog._pid)
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
