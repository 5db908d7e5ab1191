"""Removes what runs have made on an engine: exactly what carries their label."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from labs.engine.backends.docker.client import (
    allowed_to_go,
    empty_job,
    engine_errors,
    list_services,
    list_tasks,
)
from labs.engine.backends.docker.labels import RUN, client_is_gone
from labs.engine.errors import BindlabError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from labs.engine.backends.docker.client import APIClient, Task

AT_ONCE = 4  # requests to an engine, which does no more than that at a time either
INTERVAL = 0.02  # seconds between two looks at what is left
PATIENCE = 30.0  # seconds: for an engine to remove what it was told to
LATEST = 10.0  # seconds: after so long nothing comes of a request whose client has died
# A service would have new containers; a network can go when nothing is left on it.
KINDS = ("service", "container", "network")
YOUNG = 60  # seconds: until then a run of another machine may not have started its containers yet


@dataclass(frozen=True)
class Item:
    """A container, network or service that carries our label."""

    kind: str
    identity: str
    name: str
    labels: Mapping[str, str]
    is_running: bool
    created: float  # seconds since 1970, by the engine's clock

    @property
    def run(self) -> str:
        """The run that has made it."""
        return self.labels[RUN]


@dataclass(frozen=True)
class Cleaned:
    """What was removed, what belongs to runs that go on, and why other things are still there."""

    removed: tuple[Item, ...]
    left: tuple[Item, ...]
    failures: tuple[BindlabError, ...]


def find_items(client: APIClient, run: str | None = None) -> list[Item]:
    """All that carries our label, or the label of one run."""
    filters = {"label": [RUN if run is None else f"{RUN}={run}"]}
    with engine_errors("list what runs have made"):
        containers = client.containers(all=True, filters=filters)
        networks = client.networks(filters=filters)
    return [
        *find_services(client, filters),
        *(
            Item(
                "container",
                entry["Id"],
                entry["Names"][0].lstrip("/"),
                entry["Labels"],
                entry["State"] in ("running", "paused"),
                float(entry["Created"]),
            )
            for entry in containers
            # An engine that was killed may list, when it is started again, what it has just removed
            # and knows nothing of; it has no name.
            if entry["Names"]
        ),
        *(
            Item(
                "network",
                entry["Id"],
                entry["Name"],
                entry["Labels"],
                is_running=False,
                created=read_time(entry["Created"]),
            )
            for entry in networks
        ),
    ]


def find_services(client: APIClient, filters: Mapping[str, Sequence[str]]) -> Iterator[Item]:
    """The services of a swarm that these filters leave, where the engine manages one."""
    with engine_errors("list the services that runs have made"):
        services = list_services(client, filters)
    for entry in services:
        yield Item(
            "service",
            entry["ID"],
            entry["Spec"]["Name"],
            entry["Spec"]["Labels"],
            is_running=entry["ServiceStatus"]["RunningTasks"] > 0,
            created=read_time(entry["CreatedAt"]),
        )


def read_time(text: str) -> float:
    """A time of the engine's, which may count nanoseconds, in seconds since 1970."""
    return datetime.fromisoformat(text[:19] + "+00:00").timestamp()


def clean(client: APIClient) -> Cleaned:
    """Remove all that runs have made which are over; what cannot go is no obstacle to the rest."""
    removed: list[Item] = []
    left: list[Item] = []
    failures: list[BindlabError] = []
    items = find_items(client)
    for run in {item.run for item in items}:
        of_run = [item for item in items if item.run == run]
        if not is_over(of_run):
            left += of_run
            continue
        try:
            sweep(client, run)
        except BindlabError as error:
            failures.append(error)
            there = {item.identity for item in find_items(client, run)}
            of_run = [item for item in of_run if item.identity not in there]
        removed += of_run
    return Cleaned(tuple(removed), tuple(left), tuple(failures))


def is_over(items: Sequence[Item]) -> bool:
    """Whether the run that has made these is over.

    On this machine it is when its process has ended. Of another machine's process nothing is known:
    its run goes on as long as one of its containers does, and it may be about to start the first.
    """
    gone = client_is_gone(items[0].labels)
    if gone is not None:
        return gone
    young = time.time() - max(item.created for item in items) < YOUNG
    return not young and not any(item.is_running for item in items)


def sweep(client: APIClient, run: str, expected: Collection[str] = ()) -> None:
    """Remove all of a run and return when it is gone.

    `expected` are names of things that the engine was perhaps asked to make by a client that has
    died since: they may still come. EngineError where something is left when the patience is over.
    """
    awaited = set(expected)
    start = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while (items := find_items(client, run)) or awaited:
            elapsed = time.monotonic() - start
            if items and elapsed > PATIENCE:
                names = [item.name for item in items]
                raise EngineError(
                    f"The engine does not remove {', '.join(names)}.",
                    f"docker inspect {' '.join(names)}  shows what is still in the way; then "
                    "invoke clean",
                )
            awaited -= {item.name for item in items}
            if elapsed > LATEST:
                awaited.clear()
            step = plan_step(client, run, items, patient=elapsed < LATEST)
            list(pool.map(step, choose_first(items)))
            time.sleep(INTERVAL)


def choose_first(items: Sequence[Item]) -> Sequence[Item]:
    """Those that can go now: while there is a service, it would have new containers."""
    kind = next((kind for kind in KINDS if any(item.kind == kind for item in items)), "")
    return [item for item in items if item.kind == kind]


def plan_step(
    client: APIClient, run: str, items: Sequence[Item], *, patient: bool
) -> Callable[[Item], object]:
    """What takes an item of a run a step nearer to its end; a job needs two, and patience."""
    tasks: Sequence[Task] = []
    if patient and any(item.kind == "service" for item in items):
        with engine_errors("list the tasks of a run"):
            tasks = list_tasks(client, f"{RUN}={run}")

    def step(item: Item) -> None:
        if item.kind == "service":
            end_service(client, item.identity, tasks)
        else:
            remove(client, item)

    return step


def remove(client: APIClient, item: Item) -> None:
    """Remove a container or a network."""
    to_remove = remove_container if item.kind == "container" else remove_network
    to_remove(client, item.identity, item.name)


def end_service(client: APIClient, identity: str, tasks: Sequence[Task]) -> bool:
    """Take the next step to the end of a job whose tasks are these; whether it was the last.

    A job that is removed leaves its tasks and their containers behind, even running ones (Docker
    20.10; github.com/moby/moby/issues/44312). So it is first told to have none: that marks its
    tasks, and their nodes remove the containers.
    """
    if any(task.service == identity and not task.is_to_go for task in tasks):
        with engine_errors("end a service"), allowed_to_go():
            empty_job(client, identity)
        return False
    with engine_errors("remove a service"), allowed_to_go():
        client.remove_service(identity)  # type: ignore[no-untyped-call]
    return True


def remove_container(client: APIClient, identity: str, name: str) -> None:
    """Tell the engine to remove a container at once; fine if it no longer has to."""
    with engine_errors(f"remove {name}"), allowed_to_go():
        client.remove_container(identity, v=True, force=True)


def remove_network(client: APIClient, identity: str, name: str) -> None:
    """Tell the engine to remove a network; fine if it cannot yet, or no longer has to."""
    with engine_errors(f"remove {name}"), allowed_to_go():
        client.remove_network(identity)
