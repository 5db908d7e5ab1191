"""Measures the docker backend against its engine alone, which makes the same containers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from labs.engine.backends.docker.backend import DEADLINE, open_docker
from labs.engine.backends.docker.cleaning import (
    AT_ONCE,
    find_items,
    remove_container,
    remove_network,
)
from labs.engine.backends.docker.client import connected
from labs.engine.backends.docker.images import find_base
from labs.engine.backends.docker.labels import CLIENT, describe_process
from labs.engine.backends.docker.making import Maker
from labs.engine.backends.docker.watchdog import watched_run
from labs.engine.errors import EngineError
from labs.engine.layout import Layout
from labs.engine.model import Needs, ProcessPlan
from labs.engine.rehearsal import rehearse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.script import Lab

MANY = 50


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


@contextmanager
def open_maker() -> Iterator[tuple[APIClient, Maker]]:
    """What makes a run's containers, without the backend; what is left of them goes in the end."""
    with watched_run() as (client, labels, watchdog):
        yield client, Maker(client, labels, find_base(client), watchdog, DEADLINE)
