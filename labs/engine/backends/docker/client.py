"""The adapter of the Docker SDK: connects to an engine, and turns the SDK's errors into ours.

DOCKER_HOST and contexts are honoured as the docker command does.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import docker
from docker.api import APIClient
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from labs.engine.errors import BindlabError, CannotRun, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator


MINIMUM_API = (1, 41)  # Docker 20.10
TIMEOUT = 60  # seconds: for one answer of the engine; a container of a busy one may take some
START_ENGINE = "sudo systemctl start docker"

__all__ = ["APIClient", "NotFound", "connect", "engine_errors", "engine_is_there"]


def connect(timeout: float = TIMEOUT) -> APIClient:
    """A client of the engine that DOCKER_HOST or the current context names; raises CannotRun."""
    name = os.environ.get("DOCKER_CONTEXT")
    if "DOCKER_HOST" not in os.environ and ContextAPI.get_context(name) is None:
        # The SDK would go on with the default one without a word.
        raise CannotRun(f"There is no Docker context {name}.", "docker context ls")
    try:
        # With SSH the user's own ssh and its configuration.
        client = docker.from_env(version="auto", timeout=int(timeout), use_ssh_client=True)
    except (DockerException, RequestException, OSError) as error:
        raise explain_connection(error) from error
    version = tuple(int(part) for part in client.api.api_version.split("."))
    if version < MINIMUM_API:
        raise CannotRun(
            f"This Docker engine speaks API {client.api.api_version}; bindlab needs 1.41.",
            "Update it to Docker 20.10 or newer.",
        )
    return client.api


def engine_is_there(client: APIClient) -> bool:
    """Whether the engine still answers."""
    try:
        client.ping()
    except (DockerException, RequestException, OSError):
        return False
    return True


@contextlib.contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's errors into EngineError or CannotRun; `doing` completes 'Could not ...'."""
    try:
        yield
    except (DockerException, RequestException, OSError) as error:
        raise explain(doing, error) from error


def explain(doing: str, error: Exception) -> BindlabError:
    """The error for something that the engine did not do."""
    message = f"Could not {doing}: {reason(error)}"
    text = message.lower()
    if "no space left" in text:
        return CannotRun(message, "docker system df  shows what fills the disk of the engine.")
    if isinstance(error, ImageNotFound):
        return CannotRun(message, "invoke image.build")
    if "pool overlaps" in text:
        return CannotRun(
            message,
            "Another network of the engine has these addresses: --seed N takes others; "
            "invoke clean removes what runs that are over have left.",
        )
    if isinstance(error, APIError):
        return EngineError(message)
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
