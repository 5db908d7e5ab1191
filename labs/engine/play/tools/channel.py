"""Asks the command that has opened this shell, over a descriptor that all that runs in it has."""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CHANNEL = 99  # above what a shell uses itself


def ask(request: dict[str, object], descriptors: Sequence[int] = ()) -> socket.socket:
    """Send a request with descriptors; the socket at which the answer comes."""
    answer, theirs = socket.socketpair()
    with theirs, socket.socket(fileno=os.dup(CHANNEL)) as channel:
        ours = [theirs.fileno(), *descriptors]
        socket.send_fds(channel, [json.dumps(request).encode()], ours)
    return answer
