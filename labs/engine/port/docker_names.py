"""The names of Docker's containers, from the engine of this machine, if it answers at once.

The SDK behind its adapter takes longer to import than this command may; one GET does.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket

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
    host = os.environ.get("DOCKER_HOST", f"unix://{SOCKET}")
    if not host.startswith("unix://"):
        return ""
    with contextlib.closing(UnixConnection(host.removeprefix("unix://"))) as connection:
        try:
            connection.request("GET", f"/containers/{container}/json")
            document = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return ""
    name = document.get("Name") if isinstance(document, dict) else None
    return name.lstrip("/") if isinstance(name, str) else ""
