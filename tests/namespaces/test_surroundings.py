"""Odd surroundings: links and modes of a record, limits, missing accounts, several tasks."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.engine.backends.namespaces.backend import NamespacesBackend, open_namespaces
from labs.engine.catalogue import find_labs
from labs.engine.layout import Layout
from labs.engine.model import Call
from labs.engine.plans import ProcessPlan
from labs.engine.record import SCHEMA
from tests.support import ROOT, new_token, open_terminal, private_copy, run, wait_until

pytestmark = pytest.mark.namespaces

ALICE = 64001
CHURN = """
import socket
while True:
    with socket.socket(), socket.socket(), open("/dev/null"):
        pass
"""


@pytest.fixture
def backend() -> Iterator[NamespacesBackend]:
    with open_namespaces() as backend:
        backend.open_host(Layout(None).host("server"))
        backend.start_process(ProcessPlan("alice", "server", ALICE))
        yield backend


def run_python(script: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code in the project's root."""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )


# --- the record's file --------------------------------------------------------------------


def test_a_record_follows_a_symbolic_link_and_keeps_the_mode(tmp_path: Path) -> None:
    target = tmp_path / "real.json"
    target.write_text("old")
    target.chmod(0o600)
    link = tmp_path / "link.json"
    link.symlink_to(target)
    assert run("lab.euid", "--dry", "--json", str(link)).status == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["schema"] == SCHEMA
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_device_is_written_to_and_stays_one() -> None:
    before = Path("/dev/null").stat()
    assert run("lab.euid", "--dry", "--json", "/dev/null").status == 0
    assert Path("/dev/null").stat().st_ino == before.st_ino


def test_standard_output_by_its_device_stays_one(tmp_path: Path) -> None:
    before = os.readlink("/dev/stdout")
    done = run("lab.euid", "--dry", "--json", "/dev/stdout")
    assert done.status == 0
    assert os.readlink("/dev/stdout") == before
    assert f'"schema": {SCHEMA}' in done.output


@pytest.mark.parametrize("name", ["x" * 300, "", "no/such/folder"])
def test_a_name_that_cannot_be_is_a_usage_error(name: str) -> None:
    done = run("lab.euid", "--json", name)
    assert done.status == 2
    assert done.errors.count("\n") == 1


# --- the caller ---------------------------------------------------------------------------


def test_a_limit_on_descriptors_that_leaves_no_room_is_named() -> None:
    done = run("lab.euid", prefix=("prlimit", "--nofile=240"))
    assert done.status == 125
    assert "240 open files" in done.errors
    assert "ulimit -n" in done.errors


def test_a_fault_of_its_own_is_70_and_says_where() -> None:
    script = (
        "import sys; from labs.engine.command import command;"
        "from invoke.context import Context;"
        "task = command(lambda context: open('/no/such/file'), 'trial'); task(Context())"
    )
    done = run_python(script)
    assert "bindlab: FileNotFoundError" in done.stderr
    assert "/no/such/file" in done.stderr
    assert "output" not in done.stderr


def test_columns_that_are_no_number_do_no_harm() -> None:
    done = run("lab.euid", "--dry", COLUMNS="wide")
    assert done.status == 0, done


@pytest.mark.root_only
def test_a_user_without_an_account_is_told_what_is_missing() -> None:
    # Imported before the change: the files may be root's own.
    script = (
        "import os; from labs.engine.backends.namespaces.ids import own_name;"
        "os.setgid(60123); os.setuid(60123); print(own_name())"
    )
    done = run_python(script)
    assert done.stdout == "60123\n"


def test_it_can_be_called_from_the_root_folder() -> None:
    """Where Python looks for its library beside the folder it was started in, if it knows none."""
    done = run("--search-root", str(ROOT), "lab.euid", folder=Path("/"))
    assert (done.status, done.errors) == (0, "")


@pytest.mark.root_only
def test_root_runs_it_from_a_home_that_is_anothers_alone() -> None:
    with private_copy(ALICE) as folder:
        done = run("lab.euid", folder=folder)
    assert (done.status, done.errors) == (0, "")


def test_a_second_task_can_still_be_interrupted() -> None:
    with open_terminal("doctor", "lab.euid", "--pause", token=new_token()) as terminal:
        terminal.read_until("namespaces backend: works")
        terminal.read_until("Enter goes on")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.output


def test_who_ignores_a_hangup_goes_on_to_do_so() -> None:
    script = (
        "import os, signal, sys;"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); sys.argv = ['x'];"
        "import labs.engine.command as command; command.exit_on_signals();"
        "os.kill(os.getpid(), signal.SIGHUP); print('still here')"
    )
    done = run_python(script)
    assert done.stdout == "still here\n"


def test_a_plan_has_nothing_to_pause() -> None:
    done = run("lab.euid", "--dry", "--pause")
    assert done.status == 2
    assert "--dry" in done.errors


def test_lab_alone_runs_every_lab() -> None:
    done = run("lab", "--dry")
    assert done.status == 0
    labs = find_labs()
    assert done.output.startswith(f"{labs[0].name}  ")
    for lab in labs:
        assert f"{lab.name}  {lab.title}" in done.output


# --- programs on a host -------------------------------------------------------------------


def test_a_program_that_opens_and_closes_all_the_time_can_be_observed(
    backend: NamespacesBackend,
) -> None:
    python = os.path.realpath("/usr/bin/python3")
    backend.perform("alice", [Call("exec", (python, ("python3", "-c", CHURN)))])
    for _ in range(300):
        assert backend.observe("server").processes


def test_a_lab_cannot_reach_the_machines_services_through_their_sockets(
    backend: NamespacesBackend, tmp_path: Path
) -> None:
    address = Path("/tmp") / f"bindlab-test-{os.getpid()}.sock"
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(socket.socket(socket.AF_UNIX))
        service.bind(str(address))
        stack.callback(address.unlink)
        address.chmod(0o777)
        service.listen()
        service.settimeout(0)
        script = (
            "import socket, time; service = socket.socket(socket.AF_UNIX);"
            f"service.connect({str(address)!r}); time.sleep(60)"
        )
        python = os.path.realpath("/usr/bin/python3")
        backend.perform("alice", [Call("exec", (python, ("python3", "-c", script)))])
        wait_until(lambda: not backend.observe("server").processes, "the program has failed")
        with pytest.raises(BlockingIOError):
            service.accept()
