"""port.why beside a container: whose it is, and what is said of its port."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker.backend import open_docker
from labs.engine.backends.docker.client import is_local
from labs.engine.plans import ProcessPlan
from tests.contract import BOB, IPV4, PORT, SERVER, TCP, call
from tests.support import run

if TYPE_CHECKING:
    from labs.engine.backends.docker.client import APIClient

pytestmark = [pytest.mark.docker, pytest.mark.root_only]


def test_a_listener_in_a_container_is_that_containers(engine: APIClient) -> None:
    if not is_local(engine):
        pytest.skip("The engine is on another machine.")
    with open_docker() as backend:
        backend.open_host(SERVER)
        backend.start_process(ProcessPlan("bob", SERVER.name, BOB))
        (made,) = backend.perform("bob", [call("socket", IPV4, TCP, 0)])
        assert isinstance(made.value, int)
        descriptor, address = made.value, ("0.0.0.0", PORT)
        calls = [call("bind", descriptor, address), call("listen", descriptor, 8)]
        backend.perform("bob", calls)
        containers = [one for one in engine.containers() if "bindlab" in str(one["Labels"])]
        pids = {
            engine.inspect_container(one["Id"])["State"]["Pid"]: one["Id"] for one in containers
        }
        done = run("port.why", str(PORT), "--netns", str(min(pids)), "--json", "-")
        shown = run("port.why", str(PORT), "--netns", str(min(pids)))
        names = {one["Id"]: one["Names"][0].lstrip("/") for one in containers}
    assert done.status == 3, done
    document = json.loads(done.output)
    (there,) = document["sockets"]
    (holder,) = there["holders"]
    container = holder["container"]
    assert (there["owner"], container["engine"]) == (BOB, "docker")
    assert names[container["id"]] == container["name"]
    stop = next(one for one in document["advice"] if one["kind"] == "stop")
    assert f"docker stop {container['name']}" in stop["text"]
    assert f"docker {container['name']}" in " ".join(shown.output.split())
