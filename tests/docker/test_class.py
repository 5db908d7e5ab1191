"""A class on the machine's engine alone: plain containers, one for each learner."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker.labels import CLIENT, describe_process
from labs.engine.classes.classroom import open_cluster
from labs.engine.classes.cluster import Assignment, Lost
from labs.engine.classes.controller import Controller, Limits
from labs.engine.classes.roster import Learner
from labs.engine.classes.single import SingleEngine
from labs.engine.errors import ExitStatus
from tests.cluster_contract import PATIENCE, SLOW_LAB, ClusterContract, wait_for
from tests.docker.classes import Class
from tests.docker.traces import SOON, find_things, wait_for_no_things
from tests.support import (
    INVOKE,
    ROOT,
    ended,
    environment,
    new_token,
    open_terminal,
    run,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.classes.cluster import Cluster

pytestmark = [
    pytest.mark.docker,
    pytest.mark.workbench,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def find_ours(engine: APIClient, pid: int | None = None) -> list[str]:
    """What the engine has of a process, this one or another."""
    return find_things(engine, CLIENT, describe_process(pid or os.getpid()))


@pytest.fixture
def cluster(engine: APIClient) -> Iterator[Cluster]:
    """The machine's engine, on which nothing is left."""
    with open_cluster() as cluster:
        assert isinstance(cluster, SingleEngine)
        yield cluster
    assert find_ours(engine) == []


class TestSingleEngine(ClusterContract):
    """Plain containers keep the contract."""

    def test_what_is_under_way_goes_with_the_block(self, cluster: Cluster) -> None:
        for seed in range(4):
            cluster.start(Assignment(SLOW_LAB, seed))

    def test_a_container_that_somebody_removes_is_lost(
        self, cluster: Cluster, engine: APIClient
    ) -> None:
        attempt = cluster.start(Assignment(SLOW_LAB, 1))
        wait_until(lambda: bool(engine.containers(filters={"name": attempt})), "it runs", SOON)
        engine.remove_container(attempt, force=True)
        (ended,) = wait_for(cluster, 1)
        assert isinstance(ended, Lost)
        assert ended.attempt == attempt

    def test_what_takes_too_long_is_given_up(self, cluster: Cluster, engine: APIClient) -> None:
        controller = Controller(cluster, Limits(2, 1.0, attempts=1), lambda *_: None)
        (result,) = controller.run(SLOW_LAB, [Learner("Ada")])
        assert result.error == "no result within 1 seconds."
        assert find_ours(engine) == []


# --- the command --------------------------------------------------------------------------


def test_a_class_is_run_once(tmp_path: Path) -> None:
    of_three = Class(tmp_path, 3)
    done = run(*of_three.arguments("--jobs", "3"))
    assert done.status == ExitStatus.PASSED, done.text
    of_three.check_complete()
    assert re.search(r"(?m)^learner 2 +pass +18/18 +\d+\.\d  \S+$", done.output), done.output
    assert "3/3  learner" in done.errors
    before = of_three.read_files()

    again = run(*of_three.arguments())
    assert again.status == ExitStatus.USAGE
    assert "--resume" in again.errors

    resumed = run(*of_three.arguments("--resume", "--json", "-"))
    assert resumed.status == ExitStatus.PASSED, resumed.text
    assert json.loads(resumed.output) == json.loads((of_three.folder / "table.json").read_text())
    assert of_three.read_files() == before


def test_an_interrupted_class_is_resumed(tmp_path: Path, engine: APIClient) -> None:
    of_four = Class(tmp_path, 4)
    with open_terminal(*of_four.arguments("--jobs", "1"), token=new_token()) as terminal:
        client = describe_process(terminal.process.pid)
        terminal.read_until("2/4  learner")
        terminal.type("\x03")
        assert terminal.wait() == ExitStatus.INTERRUPTED
    assert "Traceback" not in terminal.output
    assert "--resume goes on" in terminal.output
    assert find_things(engine, CLIENT, client) == []
    kept = of_four.read_files()
    assert 2 <= len(kept) < 4

    done = run(*of_four.arguments("--resume"))
    assert done.status == ExitStatus.PASSED, done.text
    of_four.check_complete()
    assert of_four.read_files().items() >= kept.items(), "nobody is run twice"
    assert len(re.findall(r"(?m)^\d/4  ", done.errors)) == 4 - len(kept)


def test_of_a_controller_that_is_killed_nothing_is_left(tmp_path: Path, engine: APIClient) -> None:
    arguments = Class(tmp_path, 4).arguments("--lab", SLOW_LAB)
    process = subprocess.Popen(
        [*INVOKE, *arguments], cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
    )
    with ended(process):
        client = describe_process(process.pid)
        wait_until(lambda: bool(find_things(engine, CLIENT, client)), "a container", SOON)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    wait_for_no_things(engine, CLIENT, client)


def test_without_any_result_the_class_has_failed(tmp_path: Path) -> None:
    of_two = Class(tmp_path, 2)
    done = run(*of_two.arguments("--seconds", "1", "--lab", SLOW_LAB))
    assert done.status == ExitStatus.FAILED, done.text
    assert "learner 1: no result within 1 seconds." in done.output
    assert of_two.read_files() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--learners", "/nowhere"), "Cannot read /nowhere"),
        (("--learners", "/dev/null"), "names no learner"),
        (("--learners", "pyproject.toml", "--lab", "nothing"), "There is no lab"),
        (("--learners", "pyproject.toml", "--jobs", "many"), "--jobs takes a whole number"),
        ((), "learners"),
    ],
)
def test_a_wrong_command_line_says_so(arguments: tuple[str, ...], message: str) -> None:
    done = run("class.run", *arguments)
    assert done.status == ExitStatus.USAGE, done.text
    assert message in done.errors
    assert "Traceback" not in done.errors


def test_without_an_engine_it_cannot_run(tmp_path: Path) -> None:
    done = run(*Class(tmp_path, 1).arguments(), DOCKER_HOST=f"unix://{tmp_path}/nowhere.sock")
    assert done.status == ExitStatus.CANNOT_RUN, done.text
    assert "No Docker engine answers" in done.errors
    assert "Traceback" not in done.errors
