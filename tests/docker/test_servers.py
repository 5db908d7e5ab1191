"""The labs of real servers in containers, with the servers of their images."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker.backend import open_docker
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.rehearsal import rehearse
from labs.engine.runner import run_lab
from tests.docker.traces import seeds
from tests.reloads import check_reloads, reload_often, start_haproxy, start_nginx
from tests.support import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.model import Event
    from labs.engine.script import Host
    from tests.reloads import Renew

pytestmark = pytest.mark.docker


STEPS = {"nginx": 16, "haproxy": 8}
SERVERS = [
    partial(start_nginx, reuseport=False),
    partial(start_nginx, reuseport=True),
    start_haproxy,
]


@pytest.mark.parametrize("name", STEPS)
def test_the_lab_passes(name: str, engine: APIClient) -> None:
    seed = str(seeds.take(engine))
    done = run(f"lab.{name}", "--backend", "docker", "--seed", seed, "--json", "-", seconds=120)
    assert done.status == ExitStatus.PASSED, done
    (record,) = json.loads(done.output)["runs"]
    assert [step["verdict"] for step in record["steps"]] == ["passed"] * STEPS[name]
    assert record["backend"] == "docker"
    assert record["conclusion"]


@pytest.mark.parametrize("start", SERVERS, ids=["shared", "reuseport", "haproxy"])
def test_twenty_reloads_lose_none_of_twenty_thousand_requests(
    start: Callable[[Host], Renew], engine: APIClient
) -> None:
    lab, found = reload_often(start)
    seed = seeds.take(engine)
    events: list[Event] = []
    with open_docker(rehearse(lab, seed)) as backend:
        status = run_lab(lab, backend, Layout(seed), [events.append])
    assert status is ExitStatus.PASSED, events[-1]
    check_reloads(found)
