"""Hosts of the docker backend that stay open from test to test: to start one takes the longest."""

from __future__ import annotations

import contextlib
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from labs.engine.backends.docker.backend import open_docker
from labs.engine.backends.docker.client import connected
from labs.engine.errors import EngineError
from tests.agents import NOTHING
from tests.contract import SERVER, Host
from tests.docker.traces import SOON, is_network_free
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.backends.docker.backend import DockerBackend
    from labs.engine.plans import HostPlan


class KeptHosts:
    """Lends a backend to one test after the other, for as long as none leaves anything on it.

    A test never sees sockets or processes of another's. What it has started is ended after it. If
    then a socket is left in any state, TIME_WAIT too, or a process, or a host that is not kept, or
    if something does not answer, all of it is thrown away, and the next test gets a new backend.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._backend: DockerBackend | None = None
        self._hosts: dict[str, Host] = {}

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Lend the backend to one test."""
        if self._backend is None:
            self._backend = self._stack.enter_context(open_alone())
        try:
            yield
        finally:
            if not self._is_as_before():
                self.close()

    @property
    def backend(self) -> DockerBackend:
        """The backend that is lent."""
        assert self._backend
        return self._backend

    def open(self, plan: HostPlan) -> Host:
        """A host of the backend that is lent, opened now or earlier, with nothing on it."""
        if plan.name not in self._hosts:
            self.backend.open_host(plan)
            self._hosts[plan.name] = Host(self.backend, plan)
        host = self._hosts[plan.name]
        assert host.plan == plan
        assert self.backend.observe(plan.name) == NOTHING
        return host

    def close(self) -> None:
        """Throw everything away."""
        self._backend = None
        self._hosts = {}
        self._stack.close()

    def _is_as_before(self) -> bool:
        """End all processes; whether the hosts that are kept are there, and nothing else."""
        backend = self.backend
        try:
            for process in list(backend._processes):
                backend.end_process(process, signal.SIGKILL)
            left = [host for host in backend._hosts if backend.observe(host) != NOTHING]
        except EngineError:
            return False
        return not left and backend._opening.keys() == self._hosts.keys()


@contextlib.contextmanager
def open_alone() -> Iterator[DockerBackend]:
    """A backend for hosts of the contract's addresses, as soon as no other run has them."""
    with connected() as client:
        number = int(SERVER.ipv4.split(".")[1])
        wait_until(lambda: is_network_free(client, number), "the contract's addresses", SOON)
    with open_docker() as backend:
        yield backend
