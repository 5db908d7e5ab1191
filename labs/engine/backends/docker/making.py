"""Makes a run's containers and networks on an engine, confined as far as their work allows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from itertools import count
from typing import TYPE_CHECKING

from labs.engine.backends.docker.client import (
    NO_LOGS,
    AttachedStream,
    address_pools,
    engine_errors,
    refused_publications,
)
from labs.engine.backends.docker.container import Container
from labs.engine.backends.docker.images import find_for
from labs.engine.capabilities import capability_mask
from labs.engine.errors import CannotRun, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from labs.engine.backends.docker.client import APIClient, HostConfig
    from labs.engine.backends.docker.labels import RunLabels
    from labs.engine.backends.docker.watchdog import Watchdog
    from labs.engine.plans import HostPlan, ProcessPlan, Publication

ROOT = "/opt/bindlab"
START = (
    f"import sys; sys.path.insert(0, {ROOT!r});"
    "from labs.engine.backends.docker.relay import main; main(sys.argv[1:])"
)
PYTHON = ("python3", "-I", "-S", "-c", START)

# A host's warm parent ends other users' processes, and reads their /proc and their sockets.
HOST_CAPABILITIES = ("KILL", "DAC_OVERRIDE", "SYS_PTRACE")
# To become a user and keep a capability: Docker gives those of `cap_add` to root alone.
BECOME_USER = ("SETUID", "SETGID", "SETPCAP")
LOOPBACK = "127.0.0.1"  # of the machine: no other machine reaches what is published there
MEMORY = "128m"
SERVERS_MEMORY = "256m"  # for a program and its children
WRITABLE = {"/tmp": "mode=1777,size=16m"}  # noqa: S108  # a file system of the container's own
PROCESSES = 128
NANO_CPUS = 1_000_000_000  # one processor's worth of time


@dataclass(frozen=True)
class Place:
    """Where a container belongs: its user, its capabilities, and the namespaces that it joins.

    Where a `program` is named, the container is of that one's image, and may write below /tmp.
    """

    user: str
    capabilities: Sequence[str]
    network_mode: str
    pid_mode: str | None = None
    hostname: str | None = None
    userns_mode: str | None = None
    addresses: tuple[str, str] | None = None
    program: str = ""
    second_network: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    publication: Publication | None = None


class Maker:
    """Makes the containers and networks of one run; its methods may run in several threads."""

    def __init__(
        self,
        client: APIClient,
        labels: RunLabels,
        image: str,
        watchdog: Watchdog,
        deadline: float,
    ) -> None:
        self._client = client
        self._labels = labels
        self._image = image
        self._watchdog = watchdog
        self._deadline = deadline
        self._numbers = count(1)

    def make_network(self, plan: HostPlan) -> str:
        """An internal network with room for this host's addresses; nothing is routed to or from it.

        The machine has no IPv4 address of its own on it.
        """
        wanted = (
            ip_interface(f"{plan.ipv4}/{plan.ipv4_prefix}").network,
            ip_interface(f"{plan.ipv6}/{plan.ipv6_prefix}").network,
        )
        name = self._name("network")
        try:
            with engine_errors("make a network"), self._watchdog.expecting(name):
                made = self._client.create_network(
                    name,
                    driver="bridge",
                    internal=True,
                    enable_ipv6=True,
                    ipam=address_pools(*wanted),
                    options={"com.docker.network.bridge.inhibit_ipv4": "true"},
                    labels=self._labels.as_dict(),
                )
        except CannotRun as error:
            others = find_networks(self._client, *wanted)
            raise CannotRun(" ".join([error.message, *others]), error.hint) from error
        return str(made["Id"])

    def make_published_network(self) -> str:
        """A second network, for hosts of which a port is published: an internal one has no such.

        What a host sends from it keeps its own address, so that no answer comes from outside.
        """
        name = self._name("published")
        with engine_errors("make a network"), self._watchdog.expecting(name):
            made = self._client.create_network(
                name,
                driver="bridge",
                options={"com.docker.network.bridge.enable_ip_masquerade": "false"},
                labels=self._labels.as_dict(),
            )
        return str(made["Id"])

    def make_host(self, plan: HostPlan, network: str, published_network: str) -> Container:
        """The container that owns a host's namespaces; its port is published on the second network.

        PublicationRefused where that port cannot be had.
        """
        place = Place(
            "0:0",
            HOST_CAPABILITIES,
            network_mode=network,
            hostname=plan.name,
            addresses=(plan.ipv4, plan.ipv6),
            second_network=published_network,
            sysctls=plan.sysctls,
            publication=plan.publication,
        )
        return self._start(plan.name, ["host"], place)

    def find_machine_port(self, host: Container, publication: Publication) -> int:
        """The port of the machine's under which a host's port is published."""
        with engine_errors("find a published port"):
            details = self._client.inspect_container(host.identity)
        (binding,) = details["NetworkSettings"]["Ports"][f"{publication.port}/tcp"]
        return int(binding["HostPort"])

    def make_process(self, plan: ProcessPlan, host: Container) -> Container:
        """A container that joins the host's namespaces, with one process in it.

        Unsupported for CAP_SYS_ADMIN: that would be the machine's, where the engine maps no users.
        """
        if "CAP_SYS_ADMIN" in plan.capabilities:
            raise Unsupported("A container is not given CAP_SYS_ADMIN over the machine.")
        capabilities = [name.removeprefix("CAP_") for name in plan.capabilities]
        becomes = plan.uid != 0 and bool(capabilities)
        place = Place(
            "0:0" if becomes else f"{plan.uid}:{plan.uid}",
            [*capabilities, *BECOME_USER] if becomes else capabilities,
            network_mode=f"container:{host.identity}",
            pid_mode=f"container:{host.identity}",
            userns_mode=None if plan.outer_uid is None else self._other_user_namespace(),
            program=plan.program,
        )
        mask = capability_mask(plan.capabilities)
        return self._start(plan.name, ["process", plan.name, str(plan.uid), str(mask)], place)

    def _other_user_namespace(self) -> str:
        """The mode of a container that is to have another map than its host; Unsupported."""
        with engine_errors("ask the engine for its user namespaces"):
            maps = "name=userns" in self._client.info()["SecurityOptions"]
        if not maps:
            raise Unsupported(
                "This engine maps the users of all containers alike.",
                "One that is started with dockerd --userns-remap=default has two maps.",
            )
        return "host"

    def _start(self, what: str, arguments: Sequence[str], place: Place) -> Container:
        """Create a container, attach to it, then start it: it ends when the stream does."""
        name = self._name(what)
        doing = f"start a container for {what}"
        with engine_errors(doing), self._watchdog.expecting(name):
            identity = self._create(name, arguments, place)
            stream = AttachedStream(self._client, identity)
            try:
                with refused_publications(place.publication):
                    self._client.start(identity)
            except BaseException:
                stream.close()
                raise
        return Container(identity, name, stream, self._deadline)

    def _create(self, name: str, arguments: Sequence[str], place: Place) -> str:
        publication = place.publication
        made = self._client.create_container(
            find_for(self._client, place.program) if place.program else self._image,
            [*PYTHON, *arguments],
            name=name,
            user=place.user,
            hostname=place.hostname,
            stdin_open=True,
            labels=self._labels.as_dict(),
            stop_signal="SIGKILL",
            ports=[publication.port] if publication else None,
            host_config=self._confine(place),
            networking_config=self._find_addresses(place),
        )
        if place.second_network:
            self._client.connect_container_to_network(made["Id"], place.second_network)
        return str(made["Id"])

    def _confine(self, place: Place) -> HostConfig:
        publication = place.publication
        return self._client.create_host_config(
            network_mode=place.network_mode,
            pid_mode=place.pid_mode,
            userns_mode=place.userns_mode,
            sysctls=dict(place.sysctls),
            port_bindings={publication.port: (LOOPBACK, publication.machine_port or None)}
            if publication
            else None,
            auto_remove=True,
            cap_drop=["ALL"],
            cap_add=[*place.capabilities],
            security_opt=["no-new-privileges"],
            read_only=True,
            tmpfs=WRITABLE if place.program else None,
            mem_limit=SERVERS_MEMORY if place.program else MEMORY,
            pids_limit=PROCESSES,
            nano_cpus=NANO_CPUS,
            log_config=NO_LOGS,
        )

    def _find_addresses(self, place: Place) -> dict[str, object] | None:
        """The addresses on the network that it is on, in the form of the engine's API."""
        if place.addresses is None:
            return None
        ipv4, ipv6 = place.addresses
        addresses = {"IPv4Address": ipv4, "IPv6Address": ipv6}
        return {"EndpointsConfig": {place.network_mode: {"IPAMConfig": addresses}}}

    def _name(self, what: str) -> str:
        """A name for something of this run, with what the engine allows in names."""
        allowed = re.sub("[^a-zA-Z0-9_.-]", "-", what)
        return f"bindlab-{self._labels.run}-{next(self._numbers)}-{allowed}"


def find_networks(client: APIClient, *wanted: IPv4Network | IPv6Network) -> list[str]:
    """A sentence on each network of an engine that has any of the addresses that are wanted."""
    with engine_errors("list networks"):
        networks = client.networks()
    return [
        f"The network {network['Name']} has {subnet}."
        for network in networks
        for pool in network["IPAM"]["Config"] or []
        for subnet in [ip_network(pool["Subnet"])]
        if any(one.version == subnet.version and one.overlaps(subnet) for one in wanted)
    ]
