"""What a backend is asked for, as frozen data: hosts and processes."""

from dataclasses import dataclass

from labs.engine.model import Credentials

UNPRIVILEGED_PORT_START = 1024
"""The first port that anybody may bind on a host, unless its plan says otherwise."""


@dataclass(frozen=True)
class Publication:
    """A TCP port of a host that the machine is to offer on its own 127.0.0.1.

    `machine_port` is the port there, 0 for one that the container engine chooses. Where it is
    `held`, bindlab itself listens on it first, as any program of the machine might.
    """

    port: int
    machine_port: int = 0
    held: bool = False


@dataclass(frozen=True)
class HostPlan:
    """A host to be made: its name and addresses, both inside networks of the run's own.

    From `unprivileged_port_start` on a port takes no capability: ip_unprivileged_port_start of
    ip(7), of the host's network namespace alone, 1024 as a kernel has it (since 4.11). With
    `tcp_migrate_req` what waits at a listener that is closed moves to another of its reuseport
    group (since 5.14).
    """

    name: str
    ipv4: str
    ipv4_prefix: int
    ipv6: str
    ipv6_prefix: int
    unprivileged_port_start: int = UNPRIVILEGED_PORT_START
    publication: Publication | None = None
    tcp_migrate_req: bool = False

    @property
    def sysctls(self) -> dict[str, str]:
        """What is to be set in the host's network namespace, by its name of sysctl(8)."""
        start = {"net.ipv4.ip_unprivileged_port_start": str(self.unprivileged_port_start)}
        return start | ({"net.ipv4.tcp_migrate_req": "1"} if self.tcp_migrate_req else {})


@dataclass(frozen=True)
class OpenedHost:
    """A host that is there; `machine_port` is the machine's for it, 0 where none is published."""

    machine_port: int = 0


@dataclass(frozen=True)
class ProcessPlan:
    """A process to be started on a host under a uid of the lab.

    It starts with exactly these capabilities(7), by name, permitted and effective, root too. Where
    `outer_uid` is given, the process has a user namespace of its own, in which `uid` stands for
    this one of the run's (user_namespaces(7)) and nothing else is mapped; a backend that cannot
    choose takes another uid that differs. It can start the `program` of this name, a real server
    or client, and write below /tmp; Unsupported where there is none. A `sandbox` is root with all
    capabilities, and starts strange programs where they can do no harm; Unsupported where there is
    nowhere.
    """

    name: str
    host: str
    uid: int
    capabilities: tuple[str, ...] = ()
    outer_uid: int | None = None
    program: str = ""
    sandbox: bool = False


@dataclass(frozen=True)
class Needs:
    """What a run will probably ask its backend for, in the order of asking."""

    hosts: tuple[HostPlan, ...] = ()
    processes: tuple[ProcessPlan, ...] = ()


@dataclass(frozen=True)
class StartedProcess:
    """A process that runs: its pid on its host, and its uids as it reported them itself."""

    pid: int
    credentials: Credentials
