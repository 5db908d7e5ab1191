"""Engines that differ from the machine's, and what goes wrong with one: on engines of their own."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import threading
import uuid
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import TYPE_CHECKING

import pytest
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from labs.engine.backends.docker.backend import DEADLINE as ANSWER
from labs.engine.backends.docker.backend import open_docker
from labs.engine.backends.docker.build import Materials, build_image
from labs.engine.backends.docker.client import connected, explain, find_image
from labs.engine.backends.docker.images import AGENT_LABEL, BASE, Recipe
from labs.engine.backends.docker.labels import new_run
from labs.engine.backends.docker.making import Maker
from labs.engine.backends.docker.watchdog import start_watchdog
from labs.engine.errors import CannotRun, EngineError, ExitStatus
from labs.engine.model import Credentials
from tests.contract import (
    ALICE,
    BOB,
    CAROL,
    CLIENT,
    IPV4,
    REUSEPORT,
    SERVER,
    WILDCARD,
    Host,
    call,
)
from tests.docker.engines import find_cgroups, open_engine
from tests.support import (
    INVOKE,
    ROOT,
    TOKEN,
    ended,
    environment,
    look,
    new_token,
    open_terminal,
    run,
    wait_for_end,
    wait_for_nothing,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docker.engines import NestedEngine
    from tests.support import Finished

pytestmark = [
    pytest.mark.docker,
    pytest.mark.root_only,
    # The SDK forgets a socket whose connect() was refused.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

FEW_SECONDS = 8.0  # until a run whose engine has stopped is over, which takes a tenth of one
TCP = "tcp://127.0.0.1:2375"
NOBODY = 65_534  # as a user namespace shows who is not in its map (overflowuid)
FIRST = 100_000  # uid of the machine's that is root's in a remapped container
REMAPPED = {
    "/etc/passwd": f"root:x:0:0::/root:/bin/sh\nremapped:x:{FIRST}:{FIRST}::/:/bin/false\n",
    "/etc/group": f"root:x:0:\nremapped:x:{FIRST}:\n",
    "/etc/subuid": f"remapped:{FIRST}:65536\n",
    "/etc/subgid": f"remapped:{FIRST}:65536\n",
}
OF_ALL_LINKS = ("all", "default", "lo")  # in /proc/sys/net/ipv4/conf and the like
COUNTERS = ("nf_conntrack_count",)
ENDINGS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])


@pytest.fixture(scope="module")
def plain() -> Iterator[NestedEngine]:
    """An engine as it comes; a test that stops it starts it again."""
    with open_engine() as engine:
        engine.load_image()
        yield engine


@pytest.fixture
def clean(plain: NestedEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[NestedEngine]:
    """The same engine as the one of this process, on which a test leaves nothing of a run's."""
    monkeypatch.setenv("DOCKER_HOST", plain.address)
    yield plain
    gc.collect()  # the sockets that the SDK has forgotten, of which a warning is expected here
    assert plain.list_leftovers() == []


@pytest.fixture(scope="module")
def remapping() -> Iterator[NestedEngine]:
    """An engine that gives containers another map of uids than the machine's.

    It answers on loopback too, without TLS: nobody else has this loopback.
    """
    options = ("--userns-remap=remapped", f"--host={TCP}", "--tls=false")
    with open_engine(*options, files=REMAPPED) as engine:
        engine.load_image()
        yield engine


@pytest.fixture
def remapped_host(remapping: NestedEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host on it."""
    monkeypatch.setenv("DOCKER_HOST", remapping.address)
    with open_docker() as backend:
        backend.open_host(SERVER)
        yield Host(backend, SERVER)
    assert remapping.list_leftovers() == []


def run_lab(engine: NestedEngine, *arguments: str) -> Finished:
    """Run the EUID lab on an engine."""
    return engine.run("lab.euid", "--backend", "docker", *arguments)


def check_missing(done: Finished, *words: str) -> None:
    """Status 125, the words in what it wrote, and no traceback."""
    assert done.status == ExitStatus.CANNOT_RUN, done
    assert "Traceback" not in done.text
    for word in words:
        assert word in done.text


def check_passed(done: Finished, steps: int) -> None:
    """All steps as expected, none skipped."""
    assert done.status == ExitStatus.PASSED, done
    assert done.output.endswith(f"\n{steps} steps: {steps} as expected\n"), done.output
    assert done.errors == ""


# --- an engine of a test's own ------------------------------------------------------------


def test_an_engine_of_a_test_changes_nothing_of_the_machine_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = new_token()
    monkeypatch.setenv(TOKEN, token)
    before, settings = look(token), look_at_settings()
    with open_engine(files=REMAPPED, size="64m") as engine:
        folder = Path(engine.address.removeprefix("unix://")).parent
        with engine.connected() as client:
            bridge = "br-" + client.create_network("foreign")["Id"][:12]
        assert show_network(*engine.inside("net")).count(bridge) > 1
        assert bridge not in show_network()
        assert look(token).processes
        assert look(token).beyond(before).keys() == {"processes", "namespaces"}
        assert look_at_settings() == settings
        assert engine.path("/etc/subuid").read_text() == REMAPPED["/etc/subuid"]
    assert wait_for_nothing(before, token) == {}
    assert look_at_settings() == settings
    assert not folder.exists()
    assert find_cgroups(folder.name) == []


def look_at_settings() -> set[str]:
    """The machine's files in /etc, and its network's settings but for those of single links.

    Others make links meanwhile, the machine's own engine for one.
    """
    files = [Path(folder, name) for folder, _, names in os.walk("/etc") for name in names]
    return {
        *(f"{path} {path.lstat().st_mtime_ns} {path.lstat().st_size}" for path in files),
        *(f"{path} {read_setting(path)}" for path in list_settings()),
    }


def list_settings() -> Iterator[Path]:
    """The files of /proc/sys on networks, keys and namespaces."""
    for part in ("net", "kernel/keys", "user"):
        for folder, folders, names in os.walk(f"/proc/sys/{part}"):
            if os.path.basename(folder) in ("conf", "neigh"):
                folders[:] = OF_ALL_LINKS
            yield from (Path(folder, name) for name in names if name not in COUNTERS)


def read_setting(path: Path) -> str:
    """A file of /proc/sys; empty where there is none, or where it is only to be written to."""
    try:
        return path.read_text()
    except OSError:
        return ""


def show_network(*prefix: str) -> str:
    """The links and the rules for packets, as a command of this prefix sees them."""
    commands = (["ip", "link"], ["iptables-save"], ["ip6tables-save"])
    done = [
        subprocess.run([*prefix, *command], capture_output=True, text=True, check=True)
        for command in commands
    ]
    return "".join(one.stdout for one in done)


def test_two_engines_know_nothing_of_each_other(plain: NestedEngine) -> None:
    with connected() as machines, plain.connected() as client:
        assert machines.info()["ID"] != client.info()["ID"]
        assert client.info()["Containers"] == 0


# --- user namespaces ----------------------------------------------------------------------


def test_the_same_uid_in_another_map_is_another_user(remapped_host: Host) -> None:
    address = WILDCARD[IPV4]
    alice = remapped_host.start("alice")
    alice.listening(address, REUSEPORT)
    other = remapped_host.start("other", outer_uid=CAROL)
    assert other.started.credentials == alice.started.credentials
    assert other.bind_refused(address, REUSEPORT) == "EADDRINUSE"
    remapped_host.start("alice-2").listening(address, REUSEPORT)
    assert [row.uid for row in remapped_host.rows()] == [ALICE, ALICE]


def test_the_host_is_remapped_and_the_other_is_not(
    remapping: NestedEngine, remapped_host: Host
) -> None:
    remapped_host.start("alice")
    remapped_host.start("other", outer_uid=CAROL)
    uids = {Path(f"/proc/{pid}").stat().st_uid for pid in remapping.list_processes()}
    assert uids == {FIRST, FIRST + ALICE, ALICE}


def test_who_is_in_another_map_is_seen_as_nobody(remapped_host: Host) -> None:
    other = remapped_host.start("other", outer_uid=CAROL)
    alice = remapped_host.start("alice")
    other.listening(WILDCARD[IPV4], REUSEPORT)
    assert remapped_host.row().uid == NOBODY
    row = other.row()
    assert row.credentials == Credentials(NOBODY, NOBODY, NOBODY, NOBODY)
    assert row.sockets == ()  # nobody on the host may look into it
    assert alice.row().credentials == Credentials(ALICE, ALICE, ALICE, ALICE)


def test_capabilities_in_another_map_are_seen_and_are_more(remapped_host: Host) -> None:
    """The map of the machine's root is above that of the host, which its capabilities reach."""
    able = remapped_host.start("able", ALICE, ("CAP_NET_BIND_SERVICE",), outer_uid=CAROL)
    able.listening(port=80)
    unable = remapped_host.start("unable", outer_uid=CAROL)
    assert unable.bind_refused(WILDCARD[IPV4], port=81) == "EACCES"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_is_in_another_map_can_be_ended(remapped_host: Host, number: int) -> None:
    other = remapped_host.start("other", outer_uid=CAROL)
    other.listening()
    child = other.fork("child")
    assert set(remapped_host.processes()) == {other.started.pid, child.started.pid}
    other.end(number)
    assert set(remapped_host.processes()) == {child.started.pid}
    assert remapped_host.row().state == "LISTEN"
    child.end(number)
    assert remapped_host.processes() == {}
    assert remapped_host.rows() == []
    with pytest.raises(EngineError, match="no process child"):
        child.end(number)


def test_who_is_in_another_map_can_end_by_itself(remapped_host: Host) -> None:
    other = remapped_host.start("other", BOB, outer_uid=CAROL)
    other.do("exit", 3)
    other.end(0)
    assert remapped_host.processes() == {}


def test_who_is_in_another_map_can_be_ended_as_another_program(remapped_host: Host) -> None:
    other = remapped_host.start("other", outer_uid=CAROL)
    other.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
    other.end(signal.SIGTERM)
    assert remapped_host.processes() == {}


@pytest.mark.parametrize(("lab", "steps"), [("euid", 18), ("containers", 13)])
def test_a_lab_with_two_maps(remapping: NestedEngine, lab: str, steps: int) -> None:
    """In the engine's network namespace, as on a machine whose engine it is."""
    inside = remapping.inside("net")
    check_passed(remapping.run(f"lab.{lab}", "--backend", "docker", prefix=inside), steps)
    assert remapping.list_leftovers() == []


# --- an engine that stops during a run ----------------------------------------------------


@contextlib.contextmanager
def restarted(engine: NestedEngine) -> Iterator[None]:
    """See that an engine that was stopped goes on after a test."""
    try:
        yield
    finally:
        engine.restart()


@ENDINGS
def test_an_engine_that_stops_between_two_steps(clean: NestedEngine, number: int) -> None:
    options = ("lab.euid", "--backend", "docker", "--pause")
    with open_terminal(*options, token=new_token()) as terminal:
        terminal.read_until("Enter goes on")
        terminal.type("\n")
        terminal.read_until("Enter goes on")
        with restarted(clean):
            clean.stop(number)
            # Killed, it leaves its containers to itself, once it is started again.
            assert number == signal.SIGKILL or not clean.list_processes()
            terminal.type("\n")
            assert wait_for_end(terminal.process, FEW_SECONDS)
            assert terminal.wait() == ExitStatus.FAILED
    assert "expected OK, failed: The Docker engine has stopped.\n" in terminal.output
    check_stopped(terminal.output)
    cleaned = clean.run("clean")
    assert cleaned.status == ExitStatus.PASSED, cleaned
    assert not clean.list_processes()


def check_stopped(text: str) -> None:
    """What a run says last whose engine has stopped, in one message."""
    *_, message, hint = text.splitlines()
    assert message.startswith("bindlab: The Docker engine has stopped"), text
    assert hint == "  sudo systemctl start docker, then invoke clean"
    assert text.count("bindlab: ") == 1
    assert "Traceback" not in text


@ENDINGS
@pytest.mark.parametrize("moment", ["containers are made", "the lab goes on"])
def test_an_engine_that_stops_at_any_moment(clean: NestedEngine, moment: str, number: int) -> None:
    with (
        subprocess.Popen(
            [*INVOKE, "lab.euid", "--backend", "docker"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
        ended(process),
        restarted(clean),
    ):
        assert process.stdout
        text = b""
        if moment == "containers are made":
            wait_until(lambda: bool(clean.list_processes()), "a container")
        else:
            while b" 3  " not in text:
                text += process.stdout.readline()
        clean.stop(number)
        assert wait_for_end(process, FEW_SECONDS)
        text += process.stdout.read()
        assert process.returncode or process.wait() == ExitStatus.FAILED, text
    check_stopped(text.decode())
    wait_until(lambda: clean.list_leftovers() == [], "its watchdog has cleaned up")
    assert not clean.list_processes()


@ENDINGS
def test_whatever_is_asked_of_an_engine_that_has_stopped(clean: NestedEngine, number: int) -> None:
    stopped = pytest.raises(EngineError, match="has stopped; it may have kept something")
    with restarted(clean), stopped as caught, open_docker() as backend:
        backend.open_host(SERVER)
        server = Host(backend, SERVER)
        alice = server.start("alice")
        alice.listening()
        clean.stop(number)
        for ask in (
            alice.socket,
            lambda: alice.fork("child"),
            alice.end,
            server.rows,
            lambda: server.start("bob"),
            lambda: backend.open_host(CLIENT),
        ):
            with pytest.raises(EngineError, match="The Docker engine has stopped") as said:
                ask()
            assert said.value.hint == "sudo systemctl start docker"
    assert caught.value.hint.endswith("then invoke clean")
    # Its watchdog waits for the engine to come back.
    wait_until(lambda: clean.list_leftovers() == [], "what it had made is gone")


def test_an_engine_that_comes_back_without_the_watchdog_is_cleaned(clean: NestedEngine) -> None:
    """The client and its watchdog are gone, as after a crash of the machine."""
    labels = new_run()
    gone = labels.client.rpartition(" ")[0] + " 1"  # a process of this pid, started long ago
    with clean.connected() as client:
        client.create_network("left", labels={**labels.as_dict(), "bindlab.client": gone})
    clean.restart()
    done = clean.run("clean")
    assert (done.status, done.output) == (ExitStatus.PASSED, "removed network left\n")


# --- a full disk --------------------------------------------------------------------------


def test_a_full_disk_is_named(clean: NestedEngine) -> None:
    with clean.full_disk():
        done = run_lab(clean)
    check_missing(done, "Could not ", "no space left on device", "docker system df")
    # It keeps the addresses of a network that it could not write down until it is started anew.
    clean.restart()
    check_passed(run_lab(clean), 18)


def test_addresses_that_an_engine_has_kept() -> None:
    """What it says then; whether there is room for so little on a full disk is not in our hand."""
    text = (
        "cannot create network 4f41 (br-4f41): conflicts with network b394 (br-b394): networks "
        "have overlapping IPv4"
    )
    error = explain("make a network", APIError("409 Client Error", explanation=text))
    assert isinstance(error, CannotRun)
    assert "--seed N takes others" in error.hint


def test_a_disk_that_is_full_later(clean: NestedEngine) -> None:
    with open_docker() as backend:
        backend.open_host(SERVER)
        with clean.full_disk(), pytest.raises(CannotRun, match="no space left") as caught:
            Host(backend, SERVER).start("alice")
        assert "docker system df" in caught.value.hint
        Host(backend, SERVER).start("bob").listening()


def test_a_build_on_a_full_disk(clean: NestedEngine, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "RUN head --bytes=2G /dev/zero >/var/tmp/zeros")
    with clean.connected() as client:
        with pytest.raises(CannotRun, match="no space left") as caught:
            list(build_image(client, recipe, Materials(BASE)))
        assert "docker system df" in caught.value.hint
        assert find_image(client, recipe.tag) is None
        assert client.containers(all=True) == []


def write_recipe(folder: Path, *lines: str) -> Recipe:
    """A recipe of a test's own, which begins with the base image."""
    path = folder / "images" / "trial"
    path.mkdir(parents=True)
    (path / "Dockerfile").write_text("\n".join(["ARG BASE", "FROM ${BASE}", *lines]))
    return Recipe("trial", f"bindlab-test/{uuid.uuid4().hex[:12]}", root=folder)


# --- how an engine is reached -------------------------------------------------------------


def test_no_permission_on_the_socket(plain: NestedEngine) -> None:
    """As another user, who may read all that root may, the interpreter included."""
    reads = "-all,+dac_read_search"
    other = ("setpriv", "--reuid=60123", "--regid=60123", "--clear-groups")
    prefix = (*other, f"--inh-caps={reads}", f"--ambient-caps={reads}")
    done = plain.run("lab.euid", "--backend", "docker", prefix=prefix)
    check_missing(done, "may not talk to the Docker engine at unix://", "sudo usermod --append")
    assert (done.output, done.errors.count("\n")) == ("", 2)


@pytest.mark.parametrize("address", ["unix:///nowhere", "tcp://127.0.0.1:1", "dead"])
def test_no_engine_at_all(address: str, tmp_path: Path) -> None:
    if address == "dead":
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        address = f"unix://{path}"
    for command in (("lab.euid", "--backend", "docker"), ("clean",), ("image.build",)):
        done = run(*command, DOCKER_HOST=address)
        check_missing(done, f"No Docker engine answers at {address}", "systemctl start docker")
        assert (done.output, done.errors.count("\n")) == ("", 2)


def test_an_engine_at_a_tcp_address(remapping: NestedEngine) -> None:
    inside = remapping.inside("net")
    done = remapping.run("lab.euid", "--backend", "docker", prefix=inside, address=TCP)
    check_passed(done, 18)
    assert remapping.list_leftovers() == []


def test_ports_of_a_machine_that_is_perhaps_another_are_not_held(remapping: NestedEngine) -> None:
    inside = remapping.inside("net")
    arguments = ("lab.containers", "--backend", "docker", "--json", "-")
    done = remapping.run(*arguments, prefix=inside, address=TCP)
    assert done.status == ExitStatus.PASSED, done
    steps = json.loads(done.output)["runs"][0]["steps"]
    assert [step["verdict"] for step in steps] == ["passed"] * 12 + ["skipped"]
    assert "on another machine" in steps[-1]["outcome"]["reason"]
    assert remapping.list_leftovers() == []


class OldEngine(BaseHTTPRequestHandler):
    """Answers as an engine of 2018 would when asked who it is.

    That is no more than its number, and what is tested is what bindlab says of the number: no such
    engine can be had from the package mirror.
    """

    def do_GET(self) -> None:
        """Say which API it speaks."""
        body = json.dumps({"ApiVersion": "1.40", "Version": "19.03.15"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Write nothing."""

    def address_string(self) -> str:
        """A client of a UNIX socket has no address."""
        return ""


def test_an_engine_that_is_too_old(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with UnixStreamServer(str(path), OldEngine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = run("lab.euid", "--backend", "docker", DOCKER_HOST=f"unix://{path}")
        finally:
            server.shutdown()
            thread.join()
    check_missing(done, "speaks API 1.40; bindlab needs 1.41", "Docker 20.10 or newer")
    assert (done.output, done.errors.count("\n")) == ("", 2)


# --- what is taken, missing or of another version -----------------------------------------


@pytest.mark.parametrize("subnet", ["10.77.128.0/17", "fd00:4d::/64"])
def test_addresses_that_another_network_has(clean: NestedEngine, subnet: str) -> None:
    pools = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
    with clean.connected() as client:
        client.create_network("foreign", enable_ipv6=":" in subnet, ipam=pools)
        try:
            check_missing(run_lab(clean), "Pool overlaps", "--seed N takes others")
            assert [network["Name"] for network in client.networks(names=["foreign"])]
            check_passed(run_lab(clean, "--seed", "3"), 18)
        finally:
            client.remove_network("foreign")


def test_a_name_that_another_container_has(clean: NestedEngine) -> None:
    labels = new_run()
    with clean.connected() as client:
        image = find_image(client, BASE)
        assert image
        taken = client.create_container(BASE, ["true"], name=f"bindlab-{labels.run}-2-server")
        watchdog = start_watchdog(labels.run)
        try:
            maker = Maker(client, labels, image.identity, watchdog, ANSWER)
            network = maker.make_network(SERVER)
            with pytest.raises(EngineError, match="is already in use by container"):
                maker.make_host(SERVER, network, "")
        finally:
            watchdog.let_go()
            watchdog.wait()
        assert [entry["Id"] for entry in client.containers(all=True)] == [taken["Id"]]
        client.remove_container(taken["Id"])


@contextlib.contextmanager
def other_base(engine: NestedEngine, tag: str) -> Iterator[None]:
    """The engine's base image has another tag, and what is there meanwhile goes with the block."""
    with engine.connected() as client:
        client.tag(BASE, tag)
        client.remove_image(BASE)
        try:
            yield
        finally:
            if find_image(client, BASE):
                client.remove_image(BASE)
            client.tag(tag, BASE)
            client.remove_image(tag)


def test_a_missing_image(clean: NestedEngine) -> None:
    with other_base(clean, "kept"):
        done = run_lab(clean)
    check_missing(done, f"There is no image {BASE}", "\n  invoke image.build\n")
    assert (done.output, done.errors.count("\n")) == ("", 2)


def test_an_image_of_another_version(clean: NestedEngine, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, f"LABEL {AGENT_LABEL}=0123")
    with other_base(clean, "kept"), clean.connected() as client:
        list(build_image(client, recipe, Materials("kept")))
        client.tag(recipe.tag, BASE)
        done = run_lab(clean)
        client.remove_image(recipe.tag)
    check_missing(done, f"The image {BASE} was built from another", "\n  invoke image.build\n")
    assert (done.output, done.errors.count("\n")) == ("", 2)


# --- an engine that allows less -----------------------------------------------------------


def test_a_profile_that_refuses_what_observing_takes(clean: NestedEngine) -> None:
    refused = {"names": ["pidfd_getfd"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}
    path = clean.write("/run/profile.json", json.dumps(profile))
    with restarted(clean):
        clean.restart(f"--seccomp-profile={path}")
        done = run_lab(clean)
    check_missing(done, "A container could not observe: Operation not permitted.", "pidfd_getfd()")
