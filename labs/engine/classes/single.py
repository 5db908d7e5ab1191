"""A class on one engine: each assignment in a plain container, confined as the workbench is."""

from __future__ import annotations

import contextlib
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING

from labs.engine.backends.docker.cleaning import remove_container
from labs.engine.backends.docker.client import (
    NO_LOGS,
    AttachedStream,
    allowed_to_go,
    engine_errors,
    engine_is_there,
)
from labs.engine.backends.docker.images import ROOT
from labs.engine.classes.cluster import Delivered, Lost
from labs.engine.classes.seat import MODULE
from labs.engine.errors import BindlabError, CannotRun, EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.backends.docker.client import APIClient, HostConfig
    from labs.engine.backends.docker.labels import RunLabels
    from labs.engine.backends.docker.watchdog import Watchdog
    from labs.engine.classes.cluster import Assignment, Ended

# As compose.yaml has them for its workbench, and for the reasons that it gives.
FILTER = ROOT / "images/workbench/seccomp.json"
CAPABILITIES = ("SETUID", "SETGID")
MEMORY = 1 << 30  # bytes
PROCESSES = 1024
SCRATCH = 64 << 20  # bytes
MOST_AT_ONCE = 256
ERRORS_KEPT = 400  # characters of what a container that failed wrote last to standard error


class SingleEngine:
    """A cluster of one node: threads start containers and read what they print."""

    def __init__(
        self, client: APIClient, labels: RunLabels, image: str, watchdog: Watchdog
    ) -> None:
        self._client = client
        self._labels = labels
        self._image = image
        self._watchdog = watchdog
        self._numbers = count(1)
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE)
        self._told: queue.SimpleQueue[tuple[str, Ended | BindlabError]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: set[str] = set()
        with engine_errors("ask the engine for its name"):
            self._node = str(client.info()["Name"])

    def count_slots(self) -> int:
        """See `Cluster.count_slots`."""
        with engine_errors("ask the engine for its processors"):
            return int(self._client.info()["NCPU"])

    def start(self, assignment: Assignment) -> str:
        """See `Cluster.start`."""
        attempt = f"bindlab-{self._labels.run}-{next(self._numbers)}-{assignment.lab}"
        with self._lock:
            self._running.add(attempt)
        self._pool.submit(self._attend, attempt, assignment)
        return attempt

    def wait(self, seconds: float) -> Sequence[Ended]:
        """See `Cluster.wait`."""
        told: list[Ended] = []
        try:
            told += self._tell(*self._told.get(timeout=max(seconds, 0.001)))
            while True:
                told += self._tell(*self._told.get_nowait())
        except queue.Empty:
            return told

    def end(self, attempt: str) -> None:
        """See `Cluster.end`."""
        with self._lock:
            if attempt not in self._running:
                return
            self._running.remove(attempt)
        # If its thread is about to make it, that looks whether it is still wanted.
        remove_container(self._client, attempt, attempt)

    def leave_out(self, node: str, reason: str, hint: str) -> None:
        """See `Cluster.leave_out`: there is no other."""
        raise CannotRun(f"{node} cannot run this. {reason}", hint)

    def close(self) -> None:
        """Give up what still runs."""
        with self._lock:
            left = [*self._running]
        for attempt in left:
            self.end(attempt)
        self._pool.shutdown(cancel_futures=True)

    def _tell(self, attempt: str, ended: Ended | BindlabError) -> Sequence[Ended]:
        """What there is to be told of an end; raises what stopped the engine."""
        with self._lock:
            if attempt not in self._running:
                return []
            self._running.remove(attempt)
        if isinstance(ended, BindlabError):
            raise ended
        return [ended]

    # --- in a thread ---

    def _attend(self, attempt: str, assignment: Assignment) -> None:
        """See an attempt through, from its container's creation to its removal."""
        ended: Ended | BindlabError
        try:
            ended = self._run(attempt, assignment)
        except EngineError as error:
            # Of one container alone, or of all.
            is_there = engine_is_there(self._client)
            ended = Lost(attempt, self._node, error.message.rstrip(".")) if is_there else error
        except BindlabError as error:
            ended = error
        except Exception as error:  # a fault of bindlab's own, told where it is noticed
            ended = EngineError(f"A thread of the class has failed: {error!r}.")
        self._told.put((attempt, ended))
        # Meanwhile the next one may begin. What cannot be removed now the watchdog removes.
        with contextlib.suppress(BindlabError):
            remove_container(self._client, attempt, attempt)

    def _run(self, attempt: str, assignment: Assignment) -> Ended:
        if not self._is_wanted(attempt):
            return Lost(attempt, "", "it was given up")
        with engine_errors("start a container"), self._watchdog.expecting(attempt):
            identity = self._create(attempt, assignment)
        # Whoever gave it up before this found nothing to remove.
        if not self._is_wanted(attempt):
            return Lost(attempt, "", "it was given up")
        with engine_errors("run a container"):
            output, errors = self._follow(identity)
        status = None
        with engine_errors("wait for a container"), allowed_to_go():
            status = self._client.wait(identity)["StatusCode"]
        if status is None:
            return Lost(attempt, self._node, "somebody has removed its container")
        if status:
            return Lost(attempt, self._node, explain_status(status, errors))
        return Delivered(attempt, self._node, output)

    def _follow(self, identity: str) -> tuple[str, str]:
        """Start a container and read what it writes, to its end."""
        # One that is given up meanwhile is removed, and its stream ends.
        with allowed_to_go(), contextlib.closing(AttachedStream(self._client, identity)) as stream:
            self._client.start(identity)
            output, errors = stream.read_to_end()
            return output.decode(errors="replace"), errors.decode(errors="replace")
        return "", ""

    def _is_wanted(self, attempt: str) -> bool:
        with self._lock:
            return attempt in self._running

    def _create(self, attempt: str, assignment: Assignment) -> str:
        made = self._client.create_container(
            self._image,
            list_command(assignment),
            name=attempt,
            labels=self._labels.as_dict(),
            stop_signal="SIGKILL",
            host_config=confine(self._client),
        )
        return str(made["Id"])


def list_command(assignment: Assignment) -> list[str]:
    """The command of a learner's container."""
    return ["python3", "-m", MODULE, assignment.lab, str(assignment.seed)]


def confine(client: APIClient) -> HostConfig:
    """What a learner's container may do and have; CannotRun where the filter cannot be read."""
    try:
        profile = FILTER.read_text(encoding="utf-8")
    except OSError as error:
        raise CannotRun(
            f"Cannot read {FILTER}: {error.strerror}.", "A class is run from a clone of bindlab."
        ) from error
    config = client.create_host_config(
        network_mode="none",
        cap_drop=["ALL"],
        cap_add=[*CAPABILITIES],
        security_opt=[f"seccomp={profile}", "apparmor=unconfined"],
        read_only=True,
        tmpfs={"/tmp": f"mode=1777,size={SCRATCH}"},  # noqa: S108
        mem_limit=MEMORY,
        pids_limit=PROCESSES,
        log_config=NO_LOGS,
    )
    # systempaths=unconfined is the docker command's word for these.
    config |= {"MaskedPaths": [], "ReadonlyPaths": []}
    return config


def explain_status(status: int, errors: str) -> str:
    """What a container's exit status says, and what it wrote last."""
    killed = " (killed, perhaps for want of memory)" if status == 137 else ""
    last = errors.strip().splitlines()[-1:]
    said = f": {last[0][-ERRORS_KEPT:]}" if last else ""
    return f"its container ended with status {status}{killed}{said}"
