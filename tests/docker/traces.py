"""What runs have on the machine's engine, found by label; and networks that nobody else has."""

from __future__ import annotations

import os
from collections import deque
from ipaddress import ip_network
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any

from labs.engine.backends.docker.labels import CLIENT, RUN
from labs.engine.backends.docker.making import find_networks
from labs.engine.layout import FIRST_NETWORK, Layout
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker.api import APIClient

    from labs.engine.backends.docker.backend import DockerBackend

SOON = 60.0  # seconds: for a busy engine; an idle one takes less than one


def find_things(client: APIClient, name: str, value: str) -> list[str]:
    """The containers, networks and volumes that carry a label, each as its kind and name."""
    filters = {"label": [f"{name}={value}"]}
    containers = client.containers(all=True, filters=filters)
    volumes = client.volumes(filters=filters)["Volumes"] or []
    return sorted(
        [
            *(f"container {name}" for container in containers if (name := name_of(container))),
            *(f"network {network['Name']}" for network in client.networks(filters=filters)),
            *(f"volume {volume['Name']}" for volume in volumes),
        ]
    )


def name_of(container: Mapping[str, Any]) -> str:
    """A container's name in a list of them; what is about to go has lost it."""
    return str(container["Names"][0]).lstrip("/") if container["Names"] else ""


def find_of_client(client: APIClient, process: str) -> list[str]:
    """What a client process has made, as `describe_process` describes it."""
    return find_things(client, CLIENT, process)


def run_of(backend: DockerBackend) -> str:
    """The id of a backend's run."""
    return backend._maker._labels.run


def containers_of(client: APIClient, backend: DockerBackend) -> dict[str, str]:
    """The ids of a backend's containers, by the name of their host or process."""
    filters = {"label": [f"{RUN}={run_of(backend)}"]}
    return {
        name_of(container).split("-", 3)[3]: container["Id"]
        for container in client.containers(all=True, filters=filters)
    }


def wait_for_no_things(client: APIClient, name: str, value: str) -> None:
    """Wait until the engine has nothing of this label any more."""
    wait_until(lambda: find_things(client, name, value) == [], f"nothing of {name}={value}", SOON)


def is_network_free(client: APIClient, number: int) -> bool:
    """Whether no network of the engine has any of the addresses of a run's network."""
    return find_networks(client, ip_network(f"10.{number}.0.0/16")) == []


def network_of(seed: int) -> int:
    """The number of the network of a run with this seed: 10.N.0.0/16."""
    return int(Layout(seed).host("probe").ipv4.split(".")[1])


class Seeds:
    """Gives seeds of different networks that nobody has yet, to any thread of a session."""

    def __init__(self) -> None:
        self._numbers = count(os.getpid() * 1000)  # others than another session's
        self._given = deque([FIRST_NETWORK], maxlen=100)
        self._lock = Lock()

    def take(self, client: APIClient) -> int:
        """A seed whose network the engine does not have, and that was not given lately."""
        with self._lock:
            for seed in self._numbers:
                number = network_of(seed)
                if number not in self._given and is_network_free(client, number):
                    self._given.append(number)
                    return seed
        raise AssertionError("there is no end of seeds")


seeds = Seeds()
