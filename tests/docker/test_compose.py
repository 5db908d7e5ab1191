"""compose.yaml on a real engine: the workbench, and the standing demo."""

import contextlib
import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from labs.engine.errors import ExitStatus
from tests.support import ROOT, TIMEOUT, environment, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.compose]

SERVERS = ("alice-1", "alice-2", "bob")
EVERYBODY = ("host", *SERVERS)
LISTENS = "listens on 0.0.0.0:8080 with SO_REUSEPORT"
REFUSED = "is refused: bind() to 0.0.0.0:8080"
SOON = 20.0  # seconds: the servers ask every two


@dataclass(frozen=True)
class Project:
    """compose.yaml under a project name of a test's own."""

    name: str

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run docker compose to its end."""
        return subprocess.run(
            ["docker", "compose", "--project-name", self.name, *arguments],
            cwd=ROOT,
            env=environment(**changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def output(self, *arguments: str) -> str:
        """What docker compose writes; it has to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self, service: str) -> str:
        """What a service has said so far."""
        return self.output("logs", "--no-color", "--no-log-prefix", service)

    def wait_for(self, service: str, text: str, times: int = 1) -> None:
        """Wait until a service has said something so many times."""
        what = f"{service}: {text}, {times} times"
        wait_until(lambda: self.log(service).count(text) >= times, what, SOON)

    def resources(self) -> list[str]:
        """The containers, networks and volumes of the project, but for the trainee's own."""
        label = f"label=com.docker.compose.project={self.name}"
        found = []
        for command in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
            arguments = ["docker", *command, "--quiet", "--filter", label]
            done = subprocess.run(arguments, capture_output=True, text=True, check=True)
            found += done.stdout.split()
        return [name for name in found if name != f"{self.name}_work"]


@contextlib.contextmanager
def open_project() -> Iterator[Project]:
    project = Project(f"test-{uuid.uuid4().hex[:12]}")
    try:
        yield project
    finally:
        project.run("down", "--timeout", "5", "--volumes")


@pytest.fixture
def project() -> Iterator[Project]:
    with open_project() as project:
        yield project


@pytest.fixture(scope="module")
def demo() -> Iterator[Project]:
    """The demo, with both of Alice's servers on the port and Bob refused."""
    with open_project() as project:
        project.output("up", "--detach", "--no-build")
        for server in SERVERS:
            project.wait_for(server, REFUSED if server == "bob" else LISTENS)
        yield project


# --- the workbench ------------------------------------------------------------------------


def test_a_lab_passes_in_the_workbench(project: Project) -> None:
    done = project.run("run", "--rm", "--no-TTY", "workbench", "invoke", "lab.euid")
    assert done.returncode == ExitStatus.PASSED, done.stdout + done.stderr
    assert re.search(r"(\d+) steps: \1 as expected", done.stdout)
    assert project.resources() == []


def test_exercises_outlive_the_container(project: Project) -> None:
    def invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
        return project.run("run", "--rm", "--no-TTY", "workbench", *arguments)

    assert invoke("invoke", "exercise.start", "drop").returncode == ExitStatus.PASSED
    source = "/opt/bindlab/labs/euid/challenge/drop/solution.py"
    assert invoke("cp", source, "/home/trainee/bindlab/drop/program.py").returncode == 0
    solved = invoke("invoke", "exercise.check", "drop")
    assert solved.returncode == ExitStatus.PASSED, solved.stdout + solved.stderr
    assert "solved" in invoke("invoke", "exercise.progress").stdout


@pytest.mark.parametrize(
    ("command", "status"),
    [("invoke nothing", ExitStatus.USAGE), ("sh -c 'exit 3'", ExitStatus.DIFFERS)],
)
def test_the_status_of_a_command_is_passed_on(project: Project, command: str, status: int) -> None:
    done = project.run("run", "--rm", "--no-TTY", "workbench", "sh", "-c", command)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_the_doctor_finds_nothing_amiss_in_the_workbench(project: Project) -> None:
    done = project.run("run", "--rm", "--no-TTY", "workbench", "invoke", "doctor")
    assert done.returncode == ExitStatus.PASSED
    assert "namespaces backend: works" in done.stdout


def test_no_service_may_do_more_than_it_has_to(project: Project) -> None:
    config = json.loads(project.output("--profile", "workbench", "config", "--format", "json"))
    services = config["services"]
    assert services.keys() == {"workbench", *EVERYBODY}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"]
        assert service["network_mode"] in ("none", "service:host")
        assert service["mem_limit"]
        assert service["pids_limit"]
        may = ["SETUID", "SETGID"] if name == "workbench" else []
        assert service.get("cap_add", []) == may
        safe = "no-new-privileges:true" in service["security_opt"]
        assert safe == (name != "workbench")
        for key in ("privileged", "ports", "pid", "ipc", "userns_mode", "devices"):
            assert not service.get(key), f"{name} has {key}"
        # Nothing of the machine's is mounted: what a trainee writes is in a volume of its own.
        mounts = [(mount["type"], mount["source"]) for mount in service.get("volumes", [])]
        assert mounts == ([("volume", "work")] if name == "workbench" else [])


# --- the demo -----------------------------------------------------------------------------


def test_bob_is_refused_and_told_by_whom(demo: Project) -> None:
    log = demo.log("bob")
    assert "as uid 64002 gives EADDRINUSE" in log
    assert re.search(r"tcp 0\.0\.0\.0:8080  LISTEN  uid 64001  inode [1-9]\d*\n", log)
    assert "these are of uid 64001, this one is of 64002" in log
    assert LISTENS not in log


def test_both_of_alices_servers_answer(demo: Project) -> None:
    wait_until(
        lambda: bool(re.search(r"answered by: alice-1 \d+, alice-2 \d+\.", demo.log("host"))),
        "answers of both",
        SOON,
    )


def test_one_can_look_around(demo: Project) -> None:
    rows = demo.output("exec", "--no-TTY", "bob", "ss", "-ltnH").splitlines()
    assert len([row for row in rows if "0.0.0.0:8080" in row]) == 2
    assert demo.output("exec", "--no-TTY", "bob", "id", "-u").strip() == "64002"
    status = demo.output("exec", "--no-TTY", "bob", "cat", "/proc/1/status")
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


def test_bob_gets_the_port_when_it_is_free_and_then_alice_is_refused(project: Project) -> None:
    project.output("up", "--detach", "--no-build")
    project.wait_for("bob", REFUSED)
    project.output("stop", "alice-1", "alice-2")
    project.wait_for("bob", LISTENS)
    project.wait_for("host", "answered by: bob 16.")
    project.output("start", "alice-1")
    project.wait_for("alice-1", REFUSED)
    assert "these are of uid 64002, this one is of 64001" in project.log("alice-1")

    states = project.output("ps", "--all", "--format", "{{.Service}} {{.ExitCode}}").splitlines()
    assert "alice-2 0" in states, "a server that is stopped ends by itself"
    project.output("down")
    assert project.resources() == []
