"""port.why beside a container: whose it is, and what is said of its port."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker.backend import open_docker
from labs.engine.backends.docker.client import is_local
from labs.engine.backends.docker.images import BASE
from labs.engine.plans import ProcessPlan
from tests.contract import BOB, IPV4, PORT, SERVER, TCP, call
from tests.support import run

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextmanager
def publishing(engine: APIClient) -> Iterator[tuple[str, int]]:
    """A container with a published port: its id, and the port of this machine."""
    config = engine.create_host_config(port_bindings={8000: ("127.0.0.1", None)})
    made = engine.create_container(BASE, ["sleep", "600"], ports=[8000], host_config=config)
    try:
        engine.start(made["Id"])
        (binding,) = engine.port(made["Id"], 8000)
        yield made["Id"], int(binding["HostPort"])
    finally:
        engine.remove_container(made["Id"], force=True)


def test_a_published_port_is_the_containers_behind_the_proxy(engine: APIClient) -> None:
    if not is_local(engine):
        pytest.skip("The engine is on another machine.")
    with publishing(engine) as (identity, port):
        name = engine.inspect_container(identity)["Name"].lstrip("/")
        done = run("port.why", str(port), "--address", "127.0.0.1", "--json", "-")
        document = json.loads(done.output)
        if not document["sockets"]:
            pytest.skip("The engine publishes without docker-proxy.")
    (there,) = document["sockets"]
    (holder,) = there["holders"]
    assert holder["command"] == "docker-proxy"
    assert holder["container"] == {"engine": "docker", "id": identity, "name": name}
    assert holder["target"].endswith(":8000")
    assert [one["kind"] for one in document["advice"]] == ["address", "stop", "publish"]
    assert document["advice"][1]["text"] == f"Stop what is there: docker stop {name}."
