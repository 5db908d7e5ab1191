"""Measures the docker backend and classes against their engine alone, with the same containers."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from labs.engine.backends.docker.backend import DEADLINE, open_docker
from labs.engine.backends.docker.cleaning import (
    AT_ONCE,
    find_items,
    remove_container,
    remove_network,
)
from labs.engine.backends.docker.client import AttachedStream, connected
from labs.engine.backends.docker.images import find_base, find_workbench
from labs.engine.backends.docker.labels import CLIENT, describe_process
from labs.engine.backends.docker.making import Maker
from labs.engine.backends.docker.watchdog import watched_run
from labs.engine.bench_command import time_invoke
from labs.engine.classes.cluster import Assignment
from labs.engine.classes.roster import Learner
from labs.engine.classes.single import confine, list_command
from labs.engine.errors import EngineError
from labs.engine.layout import Layout
from labs.engine.plans import Needs, ProcessPlan
from labs.engine.rehearsal import rehearse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.script import Lab

MANY = 50
LEARNERS = 60
CLASS_JOBS = 4
CLASS_LAB = "euid"


def needs_of(lab: Lab) -> Needs:
    """The hosts and processes of a lab."""
    return rehearse(lab, seed=None)


def many_needs() -> Needs:
    """A host with so many processes that there are MANY containers."""
    layout = Layout(None)
    host, alice = layout.host("server"), layout.uid("alice")
    names = [f"process-{number}" for number in range(1, MANY)]
    return Needs((host,), tuple(ProcessPlan(name, host.name, alice) for name in names))


def time_engine(needs: Needs) -> float:
    """How long the engine alone takes to create, start and remove the same containers."""
    with open_maker() as (client, maker):
        start = perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            network = maker.make_network(needs.hosts[0])
            hosts = dict(
                pool.map(lambda plan: (plan.name, maker.make_host(plan, network, "")), needs.hosts)
            )
            processes = [
                *pool.map(lambda plan: maker.make_process(plan, hosts[plan.host]), needs.processes)
            ]
            containers = [*processes, *hosts.values()]
            list(pool.map(lambda one: remove_container(client, one.identity, one.name), containers))
            remove_network(client, network, "the network")
        seconds = perf_counter() - start
        for container in containers:
            container.close()
    return seconds


def time_backend(needs: Needs) -> float:
    """How long the backend takes to start the same processes and end, in seconds; EngineError."""
    with connected() as client:
        start = perf_counter()
        with open_docker(needs) as backend:
            for host in needs.hosts:
                backend.open_host(host)
            for process in needs.processes:
                backend.start_process(process)
        seconds = perf_counter() - start
        ours = describe_process(os.getpid())
        left = [item.name for item in find_items(client) if item.labels.get(CLIENT) == ours]
    if left:
        raise EngineError(f"Left on the engine: {', '.join(left)}.")
    return seconds


def check_workbench() -> None:
    """See that a class can be run; CannotRun where there is no engine or no image."""
    with connected() as client:
        find_workbench(client)


def time_class() -> float:
    """How long the whole command takes that runs a class of LEARNERS; raises EngineError."""
    with tempfile.TemporaryDirectory(prefix="bindlab-") as folder:
        roster = Path(folder, "roster")
        roster.write_text("".join(f"{name}\n" for name in learner_names()), encoding="utf-8")
        where = ("--learners", str(roster), "--folder", str(Path(folder, "class")))
        return time_invoke("class.run", *where, "--lab", CLASS_LAB, "--jobs", str(CLASS_JOBS))


def time_class_of_engine() -> float:
    """How long the engine alone takes for the same containers, as many at once; EngineError."""
    with watched_run() as (client, labels, _watchdog), ThreadPoolExecutor(CLASS_JOBS) as pool:
        image = find_workbench(client)

        def run(name: str) -> int:
            made = client.create_container(
                image,
                list_command(Assignment(CLASS_LAB, Learner(name).seed)),
                labels=labels.as_dict(),
                host_config=confine(client),
            )
            stream = AttachedStream(client, made["Id"])
            client.start(made["Id"])
            stream.read_to_end()
            stream.close()
            status = int(client.wait(made["Id"])["StatusCode"])
            client.remove_container(made["Id"])
            return status

        start = perf_counter()
        statuses = [*pool.map(run, learner_names())]
        seconds = perf_counter() - start
    if any(statuses):
        raise EngineError("A container of the benchmark failed.")
    return seconds


def learner_names() -> Sequence[str]:
    """Who is in the class that is measured."""
    return [f"learner {number}" for number in range(LEARNERS)]


@contextmanager
def open_maker() -> Iterator[tuple[APIClient, Maker]]:
    """What makes a run's containers, without the backend; what is left of them goes in the end."""
    with watched_run() as (client, labels, watchdog):
        yield client, Maker(client, labels, find_base(client), watchdog, DEADLINE)
