"""A class on a swarm of three nodes, and what becomes of it when nodes fail."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker.client import create_service
from labs.engine.backends.docker.images import WORKBENCH
from labs.engine.backends.docker.labels import CLIENT, RUN, describe_process
from labs.engine.classes.classroom import open_cluster
from labs.engine.classes.cluster import Assignment, Lost
from labs.engine.classes.seat import MODULE
from labs.engine.classes.swarm import Swarm
from labs.engine.errors import ExitStatus
from tests.cluster_contract import PATIENCE, SLOW_LAB, ClusterContract, wait_for
from tests.docker.classes import Class
from tests.docker.engines import open_engine
from tests.docker.swarms import SOON, NestedSwarm, open_swarm
from tests.support import (
    INVOKE,
    ROOT,
    describe_ended_process,
    ended,
    environment,
    new_token,
    open_terminal,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.agent import Json
    from labs.engine.classes.cluster import Cluster

pytestmark = [
    pytest.mark.docker,
    pytest.mark.workbench,
    pytest.mark.root_only,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

NODES = 3
DEAD = 1  # the number of the node that the last test kills


@pytest.fixture(scope="module")
def swarm() -> Iterator[NestedSwarm]:
    with open_swarm(NODES) as swarm:
        yield swarm


@pytest.fixture
def cluster(swarm: NestedSwarm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The swarm, on which nothing is left."""
    monkeypatch.setenv("DOCKER_HOST", swarm.manager.address)
    with open_cluster() as cluster:
        assert isinstance(cluster, Swarm)
        yield cluster
    assert find_leftovers(swarm) == []
    wait_until(lambda: count_containers(swarm) == 0, "nor has a node a container", SOON)


def find_leftovers(swarm: NestedSwarm) -> list[str]:
    """The names of what the manager has of any run."""
    return swarm.manager.list_leftovers()


def count_containers(swarm: NestedSwarm) -> int:
    """How many containers all nodes have, whether they run or not."""
    return sum(len(engine.list_leftovers()) for engine in swarm.engines)


def runs_a_container(swarm: NestedSwarm) -> bool:
    """Whether a node says that a learner's container runs, and a lab's processes are in it."""
    for engine in swarm.engines:
        with engine.connected() as client:
            if client.containers(filters={"label": RUN, "status": "running"}):
                return len(engine.list_processes()) > 1
    return False


def find_seats(swarm: NestedSwarm) -> list[int]:
    """The pids of the processes in learners' containers, as soon as these run a lab."""
    pids = [pid for engine in swarm.engines for pid in engine.list_processes()]
    return [pid for pid in pids if MODULE in read_command(pid)]


def read_command(pid: int) -> str:
    """A process's command; empty where it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


class TestSwarm(ClusterContract):
    """Replicated jobs keep the contract."""

    def test_what_is_under_way_goes_with_the_block(self, cluster: Cluster) -> None:
        for seed in range(4):
            cluster.start(Assignment(SLOW_LAB, seed))

    def test_a_container_that_somebody_kills_is_lost(
        self, cluster: Cluster, swarm: NestedSwarm
    ) -> None:
        attempt = cluster.start(Assignment(SLOW_LAB, 1))
        # One that ends while its engine still starts it, an engine of 20.10 may keep as "Created".
        wait_until(lambda: runs_a_container(swarm), "it runs", SOON)
        for pid in find_seats(swarm):
            os.kill(pid, signal.SIGKILL)
        (ended,) = wait_for(cluster, 1)
        assert isinstance(ended, Lost)
        assert ended.attempt == attempt


# --- the command --------------------------------------------------------------------------


def test_a_class_is_spread_over_the_nodes(swarm: NestedSwarm, tmp_path: Path) -> None:
    of_six = Class(tmp_path, 6)
    done = swarm.manager.run(*of_six.arguments("--jobs", "6"))
    assert done.status == ExitStatus.PASSED, done.text
    of_six.check_complete()
    assert {line.split()[-1] for line in done.output.splitlines() if "18/18" in line} == {
        engine.host for engine in swarm.engines
    }
    assert find_leftovers(swarm) == []


def test_an_interrupted_class_is_resumed(
    swarm: NestedSwarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_four = Class(tmp_path, 4)
    arguments = of_four.arguments("--jobs", "1")
    monkeypatch.setenv("DOCKER_HOST", swarm.manager.address)
    with open_terminal(*arguments, token=new_token()) as terminal:
        terminal.read_until("1/4  learner")
        terminal.type("\x03")
        assert terminal.wait() == ExitStatus.INTERRUPTED
    assert "--resume goes on" in terminal.output
    assert find_leftovers(swarm) == []
    kept = of_four.read_files()

    done = swarm.manager.run(*of_four.arguments("--resume"))
    assert done.status == ExitStatus.PASSED, done.text
    of_four.check_complete()
    assert of_four.read_files().items() >= kept.items(), "nobody is run twice"


def test_of_a_controller_that_is_killed_nothing_is_left(swarm: NestedSwarm, tmp_path: Path) -> None:
    arguments = Class(tmp_path, 4).arguments("--lab", SLOW_LAB)
    with (
        subprocess.Popen(
            [*INVOKE, *arguments],
            cwd=ROOT,
            env=environment(DOCKER_HOST=swarm.manager.address),
            stderr=subprocess.DEVNULL,
        ) as process,
        ended(process),
    ):
        wait_until(lambda: bool(find_leftovers(swarm)), "a service", SOON)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        wait_until(lambda: find_leftovers(swarm) == [], "nothing of it", SOON)
    wait_until(lambda: count_containers(swarm) == 0, "nor on a node", SOON)


def test_clean_removes_the_services_of_what_is_over(swarm: NestedSwarm) -> None:
    over = {RUN: "0123456789ab", CLIENT: describe_ended_process()}
    living = {RUN: "ba9876543210", CLIENT: describe_process(os.getpid())}
    task: dict[str, Json] = {
        "ContainerSpec": {"Image": "nothing"},
        "RestartPolicy": {"Condition": "none"},
    }
    with swarm.manager.connected() as client:
        create_service(client, "bindlab-test-over", over, task)
        create_service(client, "bindlab-test-living", living, task)
        try:
            done = swarm.manager.run("clean")
            assert done.output == (
                "removed service bindlab-test-over\nleft alone: 1 that is still going on\n"
            )
            assert find_leftovers(swarm) == ["bindlab-test-living"]
        finally:
            client.remove_service("bindlab-test-living")  # type: ignore[no-untyped-call]


def test_a_worker_names_its_manager(swarm: NestedSwarm, tmp_path: Path) -> None:
    done = swarm.engines[1].run(*Class(tmp_path, 1).arguments())
    assert done.status == ExitStatus.CANNOT_RUN, done.text
    assert "works in a swarm that it does not manage" in done.errors
    assert "10.213.7.1:2377" in done.errors


def test_an_engine_without_the_image_says_how_it_gets_there(tmp_path: Path) -> None:
    with open_engine() as engine:
        done = engine.run(*Class(tmp_path, 1).arguments())
    assert done.status == ExitStatus.CANNOT_RUN, done.text
    assert "There is no image bindlab/workbench" in done.errors
    assert "invoke image.build" in done.errors


def test_a_node_without_the_image_is_left_out(swarm: NestedSwarm, tmp_path: Path) -> None:
    lacking = swarm.engines[DEAD]
    with lacking.connected() as client:
        wait_until(lambda: count_containers(swarm) == 0, "no container has it", SOON)
        client.remove_image(WORKBENCH, force=True)
    of_six = Class(tmp_path, 6)
    done = swarm.manager.run(*of_six.arguments("--jobs", "6"))
    lacking.load_image(WORKBENCH)
    assert done.status == ExitStatus.PASSED, done.text
    of_six.check_complete()
    assert f"{lacking.host} is left out" in done.errors
    assert "docker save bindlab/workbench | ssh NODE docker load" in done.errors
    assert lacking.host not in done.output


def test_a_node_that_dies_costs_nobody_the_result(swarm: NestedSwarm, tmp_path: Path) -> None:
    of_twelve = Class(tmp_path, 12)
    dead = swarm.engines[DEAD]
    command = [*INVOKE, *of_twelve.arguments("--jobs", "6")]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(DOCKER_HOST=swarm.manager.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until(lambda: bool(dead.list_processes()), "a learner's container", SOON)
            swarm.kill(DEAD)
            output, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == ExitStatus.PASSED, errors
    of_twelve.check_complete()
    assert "is sent again: its node" in errors, errors
    assert output.count("18/18") == 12
    assert find_leftovers(swarm) == []
