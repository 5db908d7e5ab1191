"""The adapter of the Docker SDK: connects to an engine, and turns the SDK's errors into ours.

DOCKER_HOST and contexts are honoured as the docker command does.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from errno import EADDRINUSE
from typing import TYPE_CHECKING, Any

import docker
from docker.api import APIClient
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import HostConfig, IPAMConfig, IPAMPool, LogConfig
from docker.utils.socket import STDERR, STDOUT, frames_iter
from requests.exceptions import RequestException

from labs.engine.backend import PublicationRefused
from labs.engine.errors import BindlabError, CannotRun, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from labs.engine.agent import Json
    from labs.engine.plans import Publication

MINIMUM_API = (1, 41)  # Docker 20.10
TIMEOUT = 60  # seconds: for one answer of the engine; a container of a busy one may take some
NO_LOGS = LogConfig(type="none")
# Who refuses to publish a port: the engine's own book of ports, or the kernel its proxy's bind().
REFUSERS = {"allocate": "port is already allocated", "bind": "address already in use"}
START_ENGINE = "sudo systemctl start docker"
FREE_SPACE = "docker system df  shows what fills the disk of the engine."

__all__ = ["APIClient", "HostConfig"]  # for annotations elsewhere


@contextlib.contextmanager
def connected() -> Iterator[APIClient]:
    """A client as `connect` gives it, closed with the block."""
    client = connect()
    try:
        yield client
    finally:
        client.close()


def connect() -> APIClient:
    """A client of the engine that DOCKER_HOST or the current context names; raises CannotRun."""
    name = os.environ.get("DOCKER_CONTEXT")
    if "DOCKER_HOST" not in os.environ and ContextAPI.get_context(name) is None:
        # The SDK would go on with the default one without a word.
        raise CannotRun(f"There is no Docker context {name}.", "docker context ls")
    try:
        client = docker.from_env(version="auto", timeout=TIMEOUT)
    except Exception as error:  # that of SSH, a library of its own, has no base in common
        raise explain_connection(error) from error
    version = tuple(int(part) for part in client.api.api_version.split("."))
    if version < MINIMUM_API:
        raise CannotRun(
            f"This Docker engine speaks API {client.api.api_version}; bindlab needs 1.41.",
            "Update it to Docker 20.10 or newer.",
        )
    return client.api


def find_kernel(client: APIClient) -> str:
    """The release of the engine's kernel, which may be another machine's."""
    with engine_errors("ask the engine for its kernel"):
        return str(client.version()["KernelVersion"])


def is_local(client: APIClient) -> bool:
    """Whether the engine is on this machine, as far as its address says."""
    return client.base_url.startswith(("http+docker://localhost", "http+docker://localnpipe"))


def engine_is_there(client: APIClient) -> bool:
    """Whether the engine still answers."""
    try:
        client.ping()
    except (DockerException, RequestException, OSError):
        return False
    return True


class AttachedStream:
    """The standard input and output of a container, as a socket."""

    def __init__(self, client: APIClient, container: str) -> None:
        """Attach to a container that has not been started yet."""
        wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        # The SDK gives the reading side of a response; what it stands on can be written to as well.
        self._response = client.attach_socket(container, params=wanted)
        self.socket: socket.socket = getattr(self._response, "_sock", self._response)

    def read_to_end(self) -> tuple[bytes, bytes]:
        """All that it writes to standard output and standard error, when it has ended."""
        written: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
        frames = frames_iter(self.socket, tty=False)  # type: ignore[no-untyped-call]
        for stream, piece in frames:
            written[stream].append(piece)
        return b"".join(written[STDOUT]), b"".join(written[STDERR])

    def close(self) -> None:
        """Give the container an end of file."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._response.close()
        self.socket.close()


def address_pools(*networks: IPv4Network | IPv6Network) -> IPAMConfig:
    """Pools of all addresses of these networks; the last one is the gateway's, or nobody's."""
    return IPAMConfig(
        pool_configs=[
            IPAMPool(subnet=str(network), gateway=str(network.broadcast_address - 1))
            for network in networks
        ]
    )


@dataclass(frozen=True)
class Image:
    """What the engine says of an image; `size` is in bytes."""

    identity: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size: int


def find_image(client: APIClient, name: str) -> Image | None:
    """The image of this name or id, None where there is none; raises as `engine_errors` does."""
    with engine_errors(f"look for the image {name}"):
        try:
            found = client.inspect_image(name)  # type: ignore[no-untyped-call]
        except NotFound:
            return None
    labels = found["Config"]["Labels"] or {}
    return Image(found["Id"], tuple(found["RepoTags"] or ()), labels, found["Size"])


def find_untagged(client: APIClient, label: str) -> list[str]:
    """The ids of the images of this label (NAME=VALUE) that have no name and no descendants."""
    with engine_errors("list images"):
        return [*client.images(quiet=True, filters={"dangling": True, "label": label})]


def remove_untagged(client: APIClient, identity: str) -> None:
    """Remove an image that has no name any more, unless something still stands on it."""
    image = find_image(client, identity)
    if image and not image.tags:
        with engine_errors("remove an image"), allowed_to_go():
            client.remove_image(identity)


def list_services(
    client: APIClient, filters: Mapping[str, Sequence[str]]
) -> Sequence[dict[str, Any]]:  # as the engine's API has it
    """The services of a swarm, with how many of their tasks run; none where it manages no swarm."""
    try:
        return [*client.services(filters=filters, status=True)]  # type: ignore[no-untyped-call]
    except APIError as error:
        # 503: 'not a swarm manager', also of a swarm that is locked; 406: the API before 1.44 too.
        if error.status_code not in (406, 503):
            raise
        return []


# --- a swarm ---------------------------------------------------------------------------------


FAILED_STATES = ("failed", "rejected", "shutdown", "orphaned", "remove")  # without a way back


@dataclass(frozen=True)
class Node:
    """A node of a swarm; `state` is ready, down, unknown or disconnected."""

    identity: str
    host: str
    state: str
    is_active: bool
    processors: int


@dataclass(frozen=True)
class Task:
    """A task of a service's, on a node once one is found; `status` is its container's."""

    identity: str
    service: str
    node: str
    state: str
    error: str
    status: int
    is_to_go: bool  # its node removes its container when it can, also without the service


def find_swarm(client: APIClient) -> bool:
    """Whether the engine manages a swarm; CannotRun where it is in one and does not."""
    with engine_errors("ask the engine for its swarm"):
        swarm = client.info().get("Swarm") or {}
    state = swarm.get("LocalNodeState") or "inactive"
    if state == "inactive" or swarm.get("ControlAvailable"):
        return state != "inactive"
    if state != "active":
        raise CannotRun(
            f"This engine's place in its swarm is not in order: {swarm.get('Error') or state}.",
            "docker swarm unlock, if it is locked; or docker swarm leave --force",
        )
    managers = [str(manager["Addr"]) for manager in swarm.get("RemoteManagers") or ()]
    raise CannotRun(
        "This engine works in a swarm that it does not manage.",
        f"DOCKER_HOST names a manager; there is {' and '.join(managers)}.",
    )


def list_nodes(client: APIClient) -> Sequence[Node]:
    """The nodes of the swarm that the engine manages; raises the SDK's errors."""
    return [
        Node(
            entry["ID"],
            entry["Description"].get("Hostname", ""),
            entry["Status"]["State"],
            entry["Spec"]["Availability"] == "active",
            entry["Description"]["Resources"]["NanoCPUs"] // 1_000_000_000,
        )
        for entry in client.nodes()
        if "Description" in entry  # not before it has been ready once
    ]


def list_tasks(client: APIClient, label: str) -> Sequence[Task]:
    """The tasks of the services that carry a label (NAME=VALUE); raises the SDK's errors."""
    tasks = client.tasks(filters={"label": label})  # type: ignore[no-untyped-call]
    return [
        Task(
            entry["ID"],
            entry["ServiceID"],
            entry.get("NodeID", ""),
            entry["Status"]["State"],
            entry["Status"].get("Err", ""),
            (entry["Status"].get("ContainerStatus") or {}).get("ExitCode", 0),
            entry["DesiredState"] == "remove"
            or (entry["DesiredState"] == "shutdown" and entry["Status"]["State"] in FAILED_STATES),
        )
        for entry in tasks
    ]


def create_service(
    client: APIClient, name: str, labels: Mapping[str, str], task: Mapping[str, Json]
) -> str:
    """Make a service that runs one task to its end; its id. Raises the SDK's errors."""
    made = client.create_service(  # type: ignore[no-untyped-call]
        task,
        name=name,
        labels=labels,
        mode={"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}},
    )
    return str(made["ID"])


def empty_job(client: APIClient, service: str) -> None:
    """Tell a job to have no task; raises the SDK's errors."""
    found = client.inspect_service(service)  # type: ignore[no-untyped-call]
    spec = found["Spec"]
    mode = {"ReplicatedJob": {"MaxConcurrent": 0, "TotalCompletions": 0}}
    try:
        client.update_service(
            service,
            found["Version"]["Index"],
            task_template=spec["TaskTemplate"],
            name=spec["Name"],
            labels=spec["Labels"],
            mode=mode,
        )
    except APIError as error:
        if "out of sequence" not in reason(error):  # another has changed it meanwhile
            raise


def read_task_output(client: APIClient, service: str) -> str:
    """What the task of a service has written to standard output; raises the SDK's errors."""
    pieces = client.service_logs(service, stdout=True, is_tty=False)
    return b"".join(pieces).decode(errors="replace")


# --- errors ----------------------------------------------------------------------------------


@contextlib.contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's errors into EngineError or CannotRun; `doing` completes 'Could not ...'."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DockerException | RequestException | OSError) or is_of_ssh(error):
            raise explain(doing, error) from error
        raise


def is_of_ssh(error: Exception) -> bool:
    """Whether an error is one of the library that the SDK uses for SSH, which may not be there."""
    return type(error).__module__.startswith("paramiko.")


@contextlib.contextmanager
def refused_publications(publication: Publication | None) -> Iterator[None]:
    """Turn the engine's refusal to publish a port into PublicationRefused."""
    try:
        yield
    except APIError as error:
        text = reason(error)
        for call, words in REFUSERS.items():
            if publication and words in text:
                port = publication.machine_port
                raise PublicationRefused(EADDRINUSE, call, words, port) from error
        raise


@contextlib.contextmanager
def allowed_to_go() -> Iterator[None]:
    """Pass over what an engine says of something that is about to go, or that is gone."""
    try:
        yield
    except NotFound:
        pass
    except APIError as error:
        # 409: 'removal ... is already in progress'; 403: 'network ... has active endpoints'.
        if error.status_code not in (403, 409):
            raise


def explain(doing: str, error: Exception) -> BindlabError:
    """The error for something that the engine did not do."""
    message = f"Could not {doing}: {reason(error)}"
    text = message.lower()
    if "no space left" in text:
        return CannotRun(message, FREE_SPACE)
    if isinstance(error, ImageNotFound):
        return CannotRun(message, "invoke image.build")
    if "pool overlaps" in text or "networks have overlapping" in text:
        return CannotRun(
            message,
            "Another network of the engine has these addresses: --seed N takes others; "
            "invoke clean removes what runs that are over have left.",
        )
    if isinstance(error, APIError):
        return EngineError(message)
    if is_of_ssh(error):
        return CannotRun(
            f"{message} Each container takes a session, and sshd allows few (MaxSessions).",
            "Forward the socket instead: ssh -NT -L /tmp/docker.sock:/var/run/docker.sock HOST, "
            "and DOCKER_HOST=unix:///tmp/docker.sock",
        )
    return EngineError(f"The Docker engine has stopped or does not answer. {message}", START_ENGINE)


def reason(error: Exception) -> str:
    """What the engine said, as a sentence."""
    text = str(error.explanation or error) if isinstance(error, APIError) else str(error)
    return text.rstrip(". ") + "."


def explain_connection(error: Exception) -> CannotRun:
    """The error for an engine that cannot be talked to."""
    causes = [*chain(error)]
    where = os.environ.get("DOCKER_HOST") or "its socket"
    if any(isinstance(cause, PermissionError) for cause in causes):
        return CannotRun(
            f"This user may not talk to the Docker engine at {where}.",
            "sudo usermod --append --groups docker $USER  and log in again",
        )
    if any(isinstance(cause, FileNotFoundError | ConnectionError) for cause in causes):
        return CannotRun(
            f"No Docker engine answers at {where}.",
            f"{START_ENGINE}, or sudo apt-get install docker.io where there is none",
        )
    if "paramiko" in str(error):
        return CannotRun("The Docker SDK lacks SSH.", "pip install 'docker[ssh]'")
    return CannotRun(f"No Docker engine can be reached at {where}: {reason(error)}")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
