"""How containers of a run are confined: as the engine has it, and as the kernel does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from labs.engine.backends.docker.backend import DockerBackend, open_docker
from labs.engine.backends.docker.client import connected
from labs.engine.backends.docker.labels import CLIENT, RUN, new_run
from labs.engine.capabilities import capability_mask
from labs.engine.layout import Layout
from labs.engine.plans import HostPlan, Publication
from tests.contract import ALICE, BOB, PORT, ROOT, Host, Process
from tests.docker.traces import containers_of, run_of, seeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from labs.engine.backends.docker.client import APIClient

pytestmark = pytest.mark.docker

LOW_PORTS = ("CAP_NET_BIND_SERVICE",)
OF_HOSTS = {"KILL", "DAC_OVERRIDE", "SYS_PTRACE"}
TO_BECOME_A_USER = {"SETUID", "SETGID", "SETPCAP"}
# What each container of the run below may do; of its processes, which all are told here.
CAPABILITIES: dict[str, set[str]] = {
    "server": OF_HOSTS,
    "web": OF_HOSTS,
    "alice": set(),
    "root": set(),
    "low-root": {"NET_BIND_SERVICE"},
    "low-alice": {"NET_BIND_SERVICE", *TO_BECOME_A_USER},
    "bob": set(),
}
FORK_WITHOUT_END = """
import errno, os, signal
children = []
try:
    while len(children) < 1000:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
except OSError as error:
    print(errno.errorcode[error.errno], len(children))
for child in children:
    os.kill(child, signal.SIGKILL)
"""
EACH = pytest.mark.parametrize("name", CAPABILITIES)


@dataclass(frozen=True)
class Running:
    """A run with hosts and processes of all kinds."""

    backend: DockerBackend
    engine: APIClient
    plans: Mapping[str, HostPlan]
    containers: Mapping[str, str]
    processes: Mapping[str, Process]

    def inspect(self, name: str) -> Any:
        """What the engine says of a container."""
        return self.engine.inspect_container(self.containers[name])

    def network(self, kind: str) -> Any:
        """What the engine says of a network of the run: the run's own, or the published one."""
        filters = {"label": [f"{RUN}={run_of(self.backend)}"]}
        (name,) = [
            network["Name"]
            for network in self.engine.networks(filters=filters)
            if network["Name"].endswith(kind)
        ]
        return self.engine.inspect_network(name)

    def execute(self, name: str, *command: str, user: str = "0") -> str:
        """What a command writes in a container."""
        created = self.engine.exec_create(self.containers[name], [*command], user=user)
        return bytes(self.engine.exec_start(created["Id"])).decode()

    def status(self, name: str, pid: int | str) -> dict[str, str]:
        """What /proc/PID/status says of a process, read in a container of the same host."""
        lines = self.execute(name, "cat", f"/proc/{pid}/status").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with connected() as engine:
        layout = Layout(seeds.take(engine))
        plans = {
            "server": layout.host("server"),
            "web": replace(layout.host("web"), publication=Publication(PORT)),
        }
        with open_docker() as backend:
            for plan in plans.values():
                backend.open_host(plan)
            server, web = (Host(backend, plan) for plan in plans.values())
            processes = [
                server.start("alice"),
                server.start("root", ROOT, ()),
                server.start("low-root", ROOT, LOW_PORTS),
                server.start("low-alice", ALICE, LOW_PORTS),
                web.start("bob", BOB),
            ]
            named = {process.name: process for process in processes}
            yield Running(backend, engine, plans, containers_of(engine, backend), named)


def test_these_are_all(running: Running) -> None:
    assert running.containers.keys() == CAPABILITIES.keys()


# --- as the engine has it -----------------------------------------------------------------


@EACH
def test_a_container_may_do_what_it_has_to_and_no_more(running: Running, name: str) -> None:
    config = running.inspect(name)["HostConfig"]
    added = [capability.removeprefix("CAP_") for capability in config["CapAdd"] or []]
    assert config["CapDrop"] == ["ALL"]
    assert sorted(added) == sorted(CAPABILITIES[name])
    assert config["SecurityOpt"] == ["no-new-privileges"]
    assert config["ReadonlyRootfs"]
    assert not config["Privileged"]
    for key in ("Devices", "DeviceRequests", "DeviceCgroupRules", "GroupAdd", "Runtimes"):
        assert not config.get(key), key
    assert config["MaskedPaths"]
    assert config["ReadonlyPaths"]


@EACH
def test_a_container_is_limited_in_memory_processes_and_processor_time(
    running: Running, name: str
) -> None:
    config = running.inspect(name)["HostConfig"]
    assert 0 < config["Memory"] <= 256 << 20
    assert 0 < config["PidsLimit"] <= 256
    assert 0 < config["NanoCpus"] <= 10**9


@EACH
def test_a_container_has_nothing_of_the_machines_files(running: Running, name: str) -> None:
    found = running.inspect(name)
    assert found["Mounts"] == []
    config = found["HostConfig"]
    for key in ("Binds", "Mounts", "Tmpfs", "VolumesFrom", "Links"):
        assert not config.get(key), key
    assert "docker.sock" not in running.execute(name, "cat", "/proc/self/mountinfo")


@EACH
def test_a_container_never_joins_the_machines_namespaces(running: Running, name: str) -> None:
    config = running.inspect(name)["HostConfig"]
    modes = {
        key: config[key]
        for key in ("PidMode", "NetworkMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode")
    }
    assert "host" not in [mode for key, mode in modes.items() if key != "CgroupnsMode"]
    # The engine's own choice, for which cgroup v1 has no other; no cgroup can be written there.
    assert modes["CgroupnsMode"] in ("host", "private")
    if name in running.plans:
        network = running.network("network")
        assert modes["NetworkMode"] in (network["Id"], network["Name"])
        assert modes["PidMode"] == ""
    else:
        host = running.containers[running.processes[name].host.plan.name]
        assert modes["NetworkMode"] == modes["PidMode"] == f"container:{host}"


@EACH
def test_a_container_ends_with_its_stream_and_keeps_no_logs(running: Running, name: str) -> None:
    found = running.inspect(name)
    config = found["HostConfig"]
    assert config["AutoRemove"]
    assert config["RestartPolicy"]["Name"] in ("", "no")
    assert config["LogConfig"]["Type"] == "none"
    assert found["Config"]["OpenStdin"]
    assert not found["Config"]["Tty"]


def test_only_what_is_published_is(running: Running) -> None:
    bindings = {name: running.inspect(name)["HostConfig"]["PortBindings"] for name in CAPABILITIES}
    (binding,) = bindings.pop("web")[f"{PORT}/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    assert not any(bindings.values())


def test_all_carry_the_labels_of_the_run(running: Running) -> None:
    labels = {RUN: run_of(running.backend), CLIENT: new_run().client}
    carriers = [running.inspect(name)["Config"] for name in CAPABILITIES]
    carriers += [running.network("network"), running.network("published")]
    for carrier in carriers:
        assert labels.items() <= carrier["Labels"].items()


def test_the_network_of_hosts_is_internal(running: Running) -> None:
    network = running.network("network")
    assert network["Internal"]
    assert network["EnableIPv6"]
    assert network["Driver"] == "bridge"
    assert not network["Attachable"]
    addresses = {found["IPv4Address"].partition("/")[0] for found in network["Containers"].values()}
    assert addresses == {plan.ipv4 for plan in running.plans.values()}


def test_the_network_of_published_hosts_has_them_alone_and_masks_nothing(running: Running) -> None:
    network = running.network("published")
    assert network["Containers"].keys() == {running.containers["web"]}
    assert network["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"


# --- as the kernel does -------------------------------------------------------------------


@EACH
def test_what_the_kernel_says_of_a_containers_processes(running: Running, name: str) -> None:
    """Also of what was executed in it, as `docker exec` does: it starts as the container did."""
    status = running.status(name, "self")
    mask = capability_mask(f"CAP_{capability}" for capability in CAPABILITIES[name])
    assert int(status["CapBnd"], 16) == mask
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


@pytest.mark.parametrize("host", ["server", "web"])
def test_the_kernel_gives_a_host_three_capabilities(running: Running, host: str) -> None:
    status = running.status(host, 1)
    mask = capability_mask(f"CAP_{capability}" for capability in OF_HOSTS)
    assert {int(status[key], 16) for key in ("CapPrm", "CapEff", "CapBnd")} == {mask}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("name", "names"),
    [("alice", ()), ("root", ()), ("low-root", LOW_PORTS), ("low-alice", LOW_PORTS), ("bob", ())],
)
def test_the_kernel_gives_a_process_what_is_named_and_nothing_else(
    running: Running, name: str, names: tuple[str, ...]
) -> None:
    process = running.processes[name]
    mask = capability_mask(names)
    child = process.fork(f"{name}-child")
    relay = running.backend._containers[name].relay_pid
    uid = str(process.started.credentials.real)
    for pid in (process.started.pid, child.started.pid, relay):
        status = running.status(process.host.plan.name, pid)
        sets = {key: int(status[key], 16) for key in ("CapPrm", "CapEff", "CapBnd")}
        assert set(sets.values()) == {mask}, sets
        ambient = mask if uid != "0" else 0
        assert int(status["CapAmb"], 16) == ambient
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert status["Uid"].split() == status["Gid"].split() == [uid] * 4
        assert set(status["Groups"].split()) <= {uid}
    child.end()


@EACH
def test_the_root_of_a_container_cannot_be_written(running: Running, name: str) -> None:
    places = ["/", "/tmp", "/etc", "/opt/bindlab"]
    script = "; ".join(f"touch {place}/bindlab-was-here" for place in places)
    said = running.execute(name, "sh", "-c", script)
    assert said.count("Read-only file system") == len(places), said


@EACH
def test_no_setting_of_the_kernels_can_be_written(running: Running, name: str) -> None:
    """Neither its sysctls nor its cgroups."""
    found = running.execute(name, "find", "/proc/sys", "/sys", "-type", "f", "-writable")
    assert found == ""


def test_a_container_cannot_fork_without_end(running: Running) -> None:
    said = running.execute("root", "python3", "-c", FORK_WITHOUT_END)
    errno, _, count = said.partition(" ")
    assert errno == "EAGAIN"
    assert int(count) < running.inspect("root")["HostConfig"]["PidsLimit"]


def test_the_machine_has_no_ipv4_address_on_the_network(running: Running) -> None:
    """The engine's book has a gateway; nobody answers there."""
    (gateway,) = [
        pool["Gateway"].partition("/")[0]
        for pool in running.network("network")["IPAM"]["Config"]
        if ":" not in pool["Gateway"]
    ]
    alice = running.processes["alice"]
    refused = alice.refused("connect", alice.socket(), (gateway, 22))
    assert refused == "EHOSTUNREACH"
