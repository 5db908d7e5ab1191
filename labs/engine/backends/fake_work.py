"""What the fake's processes do on their own: all at once, since nothing there takes time.

Left out: who waits how makes no difference, and an idle listener answers nobody.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from labs.engine.backends.fake_kernel import FakeHost, parse_end
from labs.engine.model import OUTCOMES, TIMES

if TYPE_CHECKING:
    from labs.engine.backends.fake_kernel import FakeSocket
    from labs.engine.model import Address, Tally

FIRST_PORT = 32_768
LOAD = 100  # requests: a load goes on for as long as it likes


class FakeServer:
    """A process that answers what comes to a listener, with a name."""

    def __init__(self, listener: FakeSocket, name: str) -> None:
        self.listener = listener
        self.name = name
        self.accepted = 0
        listener.servers.append(self)

    def stop(self) -> Tally:
        """End it; what it did."""
        self.listener.servers.remove(self)
        if not self.listener.servers and self.listener.state == "LISTEN":
            for load in self.listener.host.loads:
                load.wait_at(self.listener)
        return {"accepted": self.accepted, "empty": 0, "switches": self.accepted}


class FakeLoad:
    """Clients that have made requests, and that wait wherever a listener is served no more."""

    def __init__(self, host: FakeHost, address: Address, count: int, clients: int) -> None:
        self._tally = request(host, address, min(count, LOAD), 0)
        self._clients = clients
        self._target = parse_end(family_of(address), address)
        self._there = host.route(self._target[0])
        self._there.loads.append(self)

    def wait_at(self, listener: FakeSocket) -> None:
        """Come to a listener's queue, if it is one of those that the clients ask."""
        if listener.local[1] == self._target[1]:
            listener.waiting += [replace(listener, waiting=[]) for _ in range(self._clients)]

    def stop(self) -> Tally:
        """What came of them."""
        self._there.loads.remove(self)
        return self._tally


def family_of(address: Address) -> int:
    """The family of an address in text form."""
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def request(host: FakeHost, address: Address, count: int, first_port: int) -> Tally:
    """Ask so many times, from one port after the other; what came of it, without times."""
    counts = dict.fromkeys(("asked", *OUTCOMES), 0)
    target = parse_end(family_of(address), address)
    there, source = host.route(target[0]), host.source(target[0])
    for port in range(first_port or FIRST_PORT, (first_port or FIRST_PORT) + count):
        counts["asked"] += 1
        listener = there.find_receiver(socket.SOCK_STREAM, (source, port), target)
        if listener is None:
            counts["refused"] += 1
        elif not listener.servers:
            counts["timed out"] += 1
        else:
            server = listener.servers[port % len(listener.servers)]
            server.accepted += 1
            counts["answered"] += 1
            counts[f"by {server.name}"] = counts.get(f"by {server.name}", 0) + 1
    return counts | dict.fromkeys(TIMES, 0)
