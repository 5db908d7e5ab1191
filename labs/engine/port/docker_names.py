"""Docker's containers by id and by address, from the engine here, if it answers at once.

The SDK behind its adapter takes longer to import than this command may; one GET does.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket

from labs.engine.port.sight import Container

SOCKET = "/var/run/docker.sock"
SECONDS = 0.3


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the engine."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def find_name(container: str) -> str:
    """A container's name by its id; empty where the engine does not tell."""
    document = ask(f"/containers/{container}/json")
    return read_name(document.get("Name")) if isinstance(document, dict) else ""


def find_at(address: str) -> Container | None:
    """The running container that has this address; None where the engine names none."""
    listed = ask("/containers/json")
    for one in listed if isinstance(listed, list) else []:
        try:
            networks = one["NetworkSettings"]["Networks"].values()
            if any(address in (net["IPAddress"], net["GlobalIPv6Address"]) for net in networks):
                return Container("docker", one["Id"], read_name(one["Names"][0]))
        except (AttributeError, LookupError, TypeError):
            continue  # another engine's list, in which that is not said
    return None


def read_name(name: object) -> str:
    """A name as people write it."""
    return name.lstrip("/") if isinstance(name, str) else ""


def ask(path: str) -> object:
    """The document that the engine answers with to a GET; None where it does not answer."""
    host = os.environ.get("DOCKER_HOST", f"unix://{SOCKET}")
    if not host.startswith("unix://"):
        return None
    with contextlib.closing(UnixConnection(host.removeprefix("unix://"))) as connection:
        try:
            connection.request("GET", path)
            document: object = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return None
    return document
