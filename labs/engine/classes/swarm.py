"""A class on a Docker Swarm: each assignment is a service, a replicated job of one task.

A swarm neither moves a lost node's tasks in time nor gives up, so each service has one attempt, and
the controller sends again. See docs/decisions/0009-a-class.md.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from labs.engine.backends.docker.cleaning import end_service
from labs.engine.backends.docker.client import (
    FAILED_STATES,
    create_service,
    engine_errors,
    list_nodes,
    list_tasks,
    read_task_output,
)
from labs.engine.backends.docker.images import WORKBENCH
from labs.engine.backends.docker.labels import RUN
from labs.engine.classes.cluster import Delivered, Lost, Unfit
from labs.engine.classes.seat import HOLD
from labs.engine.classes.single import (
    CAPABILITIES,
    MEMORY,
    PROCESSES,
    SCRATCH,
    explain_status,
    list_command,
)
from labs.engine.errors import CannotRun, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labs.engine.agent import Json
    from labs.engine.backends.docker.client import APIClient, Node, Task
    from labs.engine.backends.docker.labels import RunLabels
    from labs.engine.backends.docker.watchdog import Watchdog
    from labs.engine.classes.cluster import Assignment, Ended

INTERVAL = 0.1  # seconds between two looks at the tasks
READING = 0.3  # seconds between two looks at what a container has printed
COMPLETE = "complete"
WRITING = ("running", COMPLETE)
LAST_LINE = "\n}\n"  # of an outcome, and of no part of one
READY = "ready"
LOST = ("down", "disconnected")
# What root needs until it is the image's ordinary user, who gets none of it: to be without a
# network, to mount /proc, to be let through the engine's seccomp filter, which allows what goes
# with these capabilities, and to give them up.
ROOTS = ("SYS_ADMIN", "SYS_PTRACE", "SETPCAP")
WITH_APPARMOR = (1, 44)  # the API since which a service can be without AppArmor's profile
GET_IMAGE = f"docker save {WORKBENCH} | ssh NODE docker load"


class Swarm:
    """A cluster of a swarm's nodes; the engine that is talked to is one of its managers."""

    def __init__(
        self, client: APIClient, labels: RunLabels, image: str, watchdog: Watchdog
    ) -> None:
        self._client = client
        self._labels = labels
        self._image = image
        self._watchdog = watchdog
        self._numbers = count(1)
        self._running: dict[str, str] = {}  # attempts by the ids of their services
        self._ending: set[str] = set()  # services that are still to be removed
        self._next_reading: dict[str, float] = {}  # when it is a service's turn, in seconds
        self._left_out: dict[str, str] = {}  # nodes' names by id

    def count_slots(self) -> int:
        """See `Cluster.count_slots`."""
        usable = self._list_usable()
        if not usable:
            raise CannotRun("No node of the swarm is ready and active.", "docker node ls")
        return max(1, sum(node.processors for node in usable))

    def start(self, assignment: Assignment) -> str:
        """See `Cluster.start`."""
        attempt = f"bindlab-{self._labels.run}-{next(self._numbers)}-{assignment.lab}"
        with engine_errors("make a service"), self._watchdog.expecting(attempt):
            identity = create_service(
                self._client,
                attempt,
                self._labels.as_dict(),
                self._describe_task(assignment),
            )
        self._running[identity] = attempt
        return attempt

    def wait(self, seconds: float) -> Sequence[Ended]:
        """See `Cluster.wait`."""
        end = time.monotonic() + seconds
        while not (told := self._look()) and (left := end - time.monotonic()) > 0:
            time.sleep(min(INTERVAL, left))
        return told

    def end(self, attempt: str) -> None:
        """See `Cluster.end`."""
        for service in [service for service, each in self._running.items() if each == attempt]:
            del self._running[service]
            self._ending.add(service)

    def leave_out(self, node: str, reason: str, hint: str) -> None:
        """See `Cluster.leave_out`."""
        names = name_nodes(self._list_nodes())
        self._left_out |= {identity: name for identity, name in names.items() if name == node}
        if not self._list_usable():
            raise CannotRun(f"No node of the swarm can run this. {node}: {reason}", hint)

    # --- looking ---

    def _look(self) -> Sequence[Ended]:
        """Attempts that have ended since the last look; their services are removed."""
        if not self._running and not self._ending:
            return []
        with engine_errors("ask the swarm for its tasks"):
            tasks = list_tasks(self._client, f"{RUN}={self._labels.run}")
        nodes = {node.identity: node for node in self._list_nodes()}
        names = name_nodes([*nodes.values()])
        told: list[Ended] = []
        for task in tasks:
            if task.service not in self._running:
                continue
            if ended := self._judge(task, nodes.get(task.node), names.get(task.node, "")):
                told.append(ended)
                self.end(ended.attempt)
        self._ending -= {each for each in self._ending if end_service(self._client, each, tasks)}
        return told

    def _judge(self, task: Task, node: Node | None, name: str) -> Ended | None:
        """What is to be told of a task; None as long as it may still come to its end."""
        attempt = self._running[task.service]
        if task.state == "rejected" and "no such image" in task.error.lower():
            return Unfit(attempt, name, f"It has not this image {WORKBENCH}.", GET_IMAGE)
        if task.state in FAILED_STATES and (task.status or not task.error):
            return Lost(attempt, name, explain_status(task.status, ""))
        if task.state in FAILED_STATES:
            return Lost(attempt, name, task.error.rstrip("."))
        if task.node and (node is None or node.state in LOST):
            state = node.state if node else "gone"
            return Lost(attempt, name, f"its node {name or task.node} is {state}")
        if task.state not in WRITING or time.monotonic() < self._next_reading.get(task.service, 0):
            return None
        self._next_reading[task.service] = time.monotonic() + READING
        try:
            with engine_errors("read what a container printed"):
                text = read_task_output(self._client, task.service)
        except EngineError as error:
            return Lost(attempt, name, error.message.rstrip("."))
        is_whole = task.state == COMPLETE or text.endswith(LAST_LINE)
        return Delivered(attempt, name, text) if is_whole else None

    def _list_nodes(self) -> Sequence[Node]:
        with engine_errors("ask the swarm for its nodes"):
            return list_nodes(self._client)

    def _list_usable(self) -> Sequence[Node]:
        """The nodes that take attempts."""
        return [
            node
            for node in self._list_nodes()
            if node.state == READY and node.is_active and node.identity not in self._left_out
        ]

    # --- asking for ---

    def _describe_task(self, assignment: Assignment) -> dict[str, Json]:
        """A learner's container, in the form of the engine's API."""
        container: dict[str, Json] = {
            # By its id: every node runs the same, and none asks a registry for it.
            "Image": self._image,
            "Command": [*list_command(assignment), HOLD],
            "Labels": {**self._labels.as_dict()},
            "User": "0:0",
            "ReadOnly": True,
            "StopSignal": "SIGKILL",
            "CapabilityDrop": ["ALL"],
            "CapabilityAdd": [f"CAP_{name}" for name in (*CAPABILITIES, *ROOTS)],
            "Mounts": [
                {
                    "Type": "tmpfs",
                    "Target": "/tmp",  # noqa: S108
                    "TmpfsOptions": {"SizeBytes": SCRATCH, "Mode": 0o1777},
                }
            ],
        }
        version = tuple(int(part) for part in self._client.api_version.split("."))
        if version >= WITH_APPARMOR:
            container["Privileges"] = {"AppArmor": {"Mode": "disabled"}}
        return {
            "ContainerSpec": container,
            "Resources": {"Limits": {"MemoryBytes": MEMORY, "Pids": PROCESSES}},
            "RestartPolicy": {"Condition": "none"},
            "Placement": {"Constraints": [f"node.id!={node}" for node in self._left_out]},
            "LogDriver": {"Name": "json-file"},
        }


def name_nodes(nodes: Sequence[Node]) -> Mapping[str, str]:
    """A name for each node by its id: its host's, with the start of its id if others have that."""
    counts = Counter(node.host for node in nodes)
    return {
        node.identity: node.host if counts[node.host] == 1 else f"{node.host}/{node.identity[:8]}"
        for node in nodes
    }
