"""A swarm of a test's own: Docker engines in namespaces, wired to one bridge.

The bridge and the links are in the engines' own network namespaces, and go with them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.backends.docker.images import WORKBENCH
from tests.docker.engines import NestedEngine, open_engine
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BRIDGE = "swarm0"
NETWORK = "10.213.7"
PORT = 2377
HEARTBEAT = 500_000_000  # nanoseconds between two signs of life of a node's, five seconds usually
SOON = 30.0  # seconds: for a swarm to see that a node has come or gone


@dataclass(frozen=True)
class NestedSwarm:
    """Engines of which the first is the swarm's only manager; each is named node-NUMBER."""

    engines: Sequence[NestedEngine]

    @property
    def manager(self) -> NestedEngine:
        """The engine to talk to."""
        return self.engines[0]

    def node_states(self) -> dict[str, str]:
        """What the manager says of each node, by the node's address."""
        with self.manager.connected() as client:
            return {node["Status"]["Addr"]: node["Status"]["State"] for node in client.nodes()}

    def kill(self, number: int) -> None:
        """End one node as a power cut does: the engine and all that runs in its containers."""
        engine = self.engines[number]
        engine.stop(signal.SIGKILL)
        for pid in engine.list_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait_for_state(self, number: int, state: str) -> None:
        """Wait until the manager says this of a node."""
        address = address_of(number)
        wait_until(lambda: self.node_states().get(address) == state, f"{address}: {state}", SOON)


@contextlib.contextmanager
def open_swarm(count: int = 3, *, images: Sequence[int] | None = None) -> Iterator[NestedSwarm]:
    """A swarm of so many nodes; those of these numbers have the workbench's image, or all."""
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(open_engine()) for _ in range(count)]
        for number, engine in enumerate(engines):
            wire(engines[0], engine, number)
        with ThreadPoolExecutor() as pool:
            chosen = range(count) if images is None else images
            loading = [pool.submit(engines[number].load_image, WORKBENCH) for number in chosen]
            join(engines)
            for one in loading:
                one.result()
        swarm = NestedSwarm(engines)
        for number in range(count):
            swarm.wait_for_state(number, "ready")
        yield swarm


def wire(first: NestedEngine, engine: NestedEngine, number: int) -> None:
    """Give an engine its address, on a bridge in the first one's network namespace."""
    address = f"{address_of(number)}/24"
    if engine is first:
        run_ip(first, "link", "add", BRIDGE, "type", "bridge")
        run_ip(first, "address", "add", address, "dev", BRIDGE)
        run_ip(first, "link", "set", BRIDGE, "up")
        return
    port = f"node{number}"
    peer = ("peer", "name", BRIDGE, "netns", str(engine.pid))
    run_ip(first, "link", "add", port, "type", "veth", *peer)
    run_ip(first, "link", "set", port, "master", BRIDGE, "up")
    run_ip(engine, "address", "add", address, "dev", BRIDGE)
    run_ip(engine, "link", "set", BRIDGE, "up")


def join(engines: Sequence[NestedEngine]) -> None:
    """Make a swarm of engines, the first its manager."""
    with engines[0].connected() as client:
        heartbeat = client.create_swarm_spec(dispatcher_heartbeat_period=HEARTBEAT)
        client.init_swarm(address_of(0), f"{address_of(0)}:{PORT}", swarm_spec=heartbeat)
        token = client.inspect_swarm()["JoinTokens"]["Worker"]
    for number, engine in enumerate(engines[1:], 1):
        with engine.connected() as client:
            own = address_of(number)
            client.join_swarm([f"{address_of(0)}:{PORT}"], token, f"{own}:{PORT}", own)


def address_of(number: int) -> str:
    """The address of a node, counted from 0."""
    return f"{NETWORK}.{number + 1}"


def run_ip(engine: NestedEngine, *arguments: str) -> None:
    """Run ip(8) in an engine's network namespace."""
    subprocess.run([*engine.inside("net"), "ip", *arguments], check=True)
