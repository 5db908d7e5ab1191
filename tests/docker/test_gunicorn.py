"""The lab gunicorn in containers, by the real command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from labs.engine.errors import ExitStatus
from tests.docker.traces import seeds
from tests.support import run

if TYPE_CHECKING:
    from labs.engine.backends.docker.client import APIClient

pytestmark = pytest.mark.docker

SECONDS = 120.0
STEPS = 12


def test_the_lab_passes_in_containers(engine: APIClient) -> None:
    seed = str(seeds.take(engine))
    done = run(
        *("lab.gunicorn", "--backend", "docker", "--seed", seed, "--json", "-"), seconds=SECONDS
    )
    assert done.status == ExitStatus.PASSED, done
    (record,) = json.loads(done.output)["runs"]
    assert [step["verdict"] for step in record["steps"]] == ["passed"] * STEPS
    values = [step["outcome"]["value"] for step in record["steps"]]
    # One listener in five hands, and nothing lost where it lives on.
    assert (values[0], values[3], values[6], values[11]) == (5, 0, 1, 0)
