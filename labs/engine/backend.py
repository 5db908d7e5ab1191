"""The seam between the engine and what makes hosts and processes."""

from collections.abc import Sequence
from typing import Protocol

from labs.engine.model import Call, CallResult, Observation
from labs.engine.plans import HostPlan, OpenedHost, ProcessPlan, StartedProcess


class PublicationRefused(Exception):
    """A host was not opened, for its port could not be published.

    `call` is who refused: `allocate` for the container engine's own book of ports, `bind` for the
    kernel, which the engine's proxy asked. `reason` is the engine's text, in a few words,
    `machine_port` the port that it could not have.
    """

    def __init__(self, errno: int, call: str, reason: str, machine_port: int) -> None:
        super().__init__(errno, call, reason, machine_port)
        self.machine_port = machine_port
        self.errno = errno
        self.call = call
        self.reason = reason


class Backend(Protocol):
    """Makes hosts, runs processes on them and says what the kernel shows.

    Hosts and processes go by names that are unique within a run. Every method may raise EngineError
    (a process died or did not answer in time), CannotRun (the machine lacks something) or
    Unsupported (this backend cannot do that, another can).

    `kernel` is the release of the kernel that all of it happens on, as uname(1) -r says it.
    """

    name: str
    kernel: str

    def open_host(self, plan: HostPlan) -> OpenedHost:
        """Make a host, with its addresses up and joined to all others when a process starts.

        PublicationRefused where its port cannot be published.
        """

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        """Start a process that has taken its uid and capabilities and has no sockets."""

    def fork_process(self, parent: str, child: str) -> StartedProcess:
        """Let a process fork: the child inherits its sockets and its uids."""

    def perform(
        self, process: str, calls: Sequence[Call], *, go_on: bool = False
    ) -> Sequence[CallResult]:
        """Let a process make calls in order, up to the first that fails unless `go_on`.

        A call that could not be made at all raises LabError.
        """

    def end_process(self, process: str, signal: int) -> None:
        """Send a signal and wait until the process is gone; 0 waits for one that ends by itself."""

    def observe(self, host: str) -> Observation:
        """All sockets and processes of a host, now."""

    def enter_command(self, host: str) -> str:
        """The shell command that opens a shell on a host; empty where there is none."""

    def close(self) -> None:
        """End all processes and remove all hosts; returns when they are gone."""
