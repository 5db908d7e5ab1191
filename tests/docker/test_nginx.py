"""The lab nginx in containers, with the nginx of its image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker.backend import open_docker
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.rehearsal import rehearse
from labs.engine.runner import run_lab
from tests.docker.traces import seeds
from tests.reloads import check_reloads, reload_often
from tests.support import run

if TYPE_CHECKING:
    from labs.engine.backends.docker.client import APIClient
    from labs.engine.model import Event

pytestmark = pytest.mark.docker


def test_the_lab_passes(engine: APIClient) -> None:
    seed = str(seeds.take(engine))
    done = run("lab.nginx", "--backend", "docker", "--seed", seed, "--json", "-", seconds=120)
    assert done.status == ExitStatus.PASSED, done
    (record,) = json.loads(done.output)["runs"]
    assert [step["verdict"] for step in record["steps"]] == ["passed"] * 16
    assert record["backend"] == "docker"
    assert record["conclusion"]["finding"] == "holds if"


@pytest.mark.parametrize("reuseport", [False, True])
def test_twenty_reloads_lose_none_of_twenty_thousand_requests(
    reuseport: bool, engine: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, found = reload_often(monkeypatch, reuseport=reuseport)
    seed = seeds.take(engine)
    events: list[Event] = []
    with open_docker(rehearse(lab, seed)) as backend:
        status = run_lab(lab, backend, Layout(seed), [events.append])
    assert status is ExitStatus.PASSED, events[-1]
    check_reloads(found)
