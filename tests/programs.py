"""What every backend with agents does about programs that its processes start.

A module for one backend has a class that derives from ProgramsContract, and two fixtures: `server`,
a host, and `opening`, which opens one of a backend of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labs.engine.errors import CannotRun, LabError, Unsupported
from labs.engine.plans import ProcessPlan
from tests.contract import ALICE, BOB, PORT, Host, Process
from tests.support import wait_until

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from labs.engine.model import Value

ANSWER = r"""
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    connection.recv(1000)
    connection.sendall(sys.argv[2].encode("ascii").decode("unicode_escape").encode())
    connection.close()
"""
WORDS = "GET / HTTP/1.0\r\n\r\n"


def shell(process: Process, script: str, *arguments: str) -> int:
    """Start a shell's script; its pid."""
    return process.do("posix_spawn", "sh", ("-c", script, "sh", *arguments))


def output(process: Process, pid: int) -> str:
    """What it has written so far."""
    value = process.ask("read_output", pid).value
    assert isinstance(value, str)
    return value


def status(process: Process, pid: int) -> Value:
    """Its status, once it has ended."""
    wait_until(lambda: process.ask("waitpid", pid).value is not None, "it ends")
    return process.ask("waitpid", pid).value


def answering(process: Process, answer: str) -> None:
    """Start a server that answers all alike, and wait for it."""
    process.do("posix_spawn", "python3", ("-c", ANSWER, str(PORT), answer))
    process.host.wait_for_state(PORT, "LISTEN")


def marked(mark: str) -> list[Path]:
    """The machine's processes with these words in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if mark.encode() in path.read_bytes():
                found.append(path)
    return found


class ProgramsContract:
    """What a process can do with programs."""

    def test_a_program_writes_and_ends(self, server: Host) -> None:
        alice = server.start("alice")
        pid = shell(alice, "echo first; echo $1 >&2; exit 3", "second")
        assert status(alice, pid) == 3
        assert output(alice, pid) == "first\nsecond\n"
        assert status(alice, pid) == 3

    def test_a_program_starts_in_the_root_folder(self, server: Host) -> None:
        alice = server.start("alice")
        pid = shell(alice, "pwd -P")
        assert status(alice, pid) == 0
        assert output(alice, pid) == "/\n"

    def test_what_one_program_writes_is_not_anothers(self, server: Host) -> None:
        alice = server.start("alice")
        first, second = shell(alice, "echo first"), shell(alice, "echo second")
        assert (status(alice, first), status(alice, second)) == (0, 0)
        assert (output(alice, first), output(alice, second)) == ("first\n", "second\n")

    def test_a_program_runs_as_its_starter_and_below_it(self, server: Host) -> None:
        alice = server.start("alice")
        pid = shell(alice, "sleep 60 & echo ready; wait")
        wait_until(lambda: output(alice, pid) == "ready\n", "it is ready")
        rows = server.processes()
        assert alice.ask("read_children", alice.started.pid).value == str(pid)
        child = rows[int(str(alice.ask("read_children", pid).value))]
        assert {rows[pid].credentials.effective, child.credentials.effective} == {ALICE}
        assert (rows[pid].capabilities, child.capabilities) == (0, 0)
        for row in (rows[pid], child):
            alice.do("kill", row.pid, signal.SIGTERM)
        assert status(alice, pid) == -signal.SIGTERM

    def test_another_users_program_cannot_be_killed(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        pid = shell(alice, "sleep 60")
        assert bob.refused("kill", pid, signal.SIGTERM) == "EPERM"
        assert alice.do("kill", pid, signal.SIGTERM) == 0
        assert status(alice, pid) == -signal.SIGTERM
        assert alice.refused("kill", 30_000, signal.SIGTERM) == "ESRCH"

    def test_a_status_tells_what_a_program_catches(self, server: Host) -> None:
        alice = server.start("alice")
        pid = shell(alice, "trap : USR2; echo ready; while :; do sleep 1; done")
        wait_until(lambda: output(alice, pid) == "ready\n", "it is ready")
        status = str(alice.ask("read_status", pid).value)
        (mask,) = (line for line in status.splitlines() if line.startswith("SigCgt:"))
        caught = int(mask.split()[1], 16)
        assert caught >> (signal.SIGUSR2 - 1) & 1
        assert not caught >> (signal.SIGUSR1 - 1) & 1

    def test_signals_are_a_programs_own(self, server: Host) -> None:
        """Python ignores SIGPIPE; a program must not inherit that."""
        alice = server.start("alice")
        pid = shell(alice, "sleep 60")
        alice.do("kill", pid, signal.SIGPIPE)
        assert status(alice, pid) == -signal.SIGPIPE

    def test_a_program_that_is_not_there(self, server: Host) -> None:
        alice = server.start("alice")
        assert alice.refused("posix_spawn", "frobnicate", ()) == "ENOENT"

    def test_a_flood_is_read_from_its_end(self, server: Host) -> None:
        alice = server.start("alice")
        pid = shell(alice, "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
        assert status(alice, pid) == 0
        said = output(alice, pid)
        assert len(said) <= 1 << 16
        assert said.endswith("line 19999\n")

    def test_a_program_listens_and_answers(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        answering(alice, r"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes")
        asked = bob.tally("request", ("127.0.0.1", PORT), 5, 0, WORDS)
        assert (asked["asked"], asked["answered"], asked["by yes"]) == (5, 5, 5)
        assert server.row(state="LISTEN").uid == ALICE

    def test_half_an_answer_is_none(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        answering(alice, r"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\ny")
        asked = bob.tally("request", ("127.0.0.1", PORT), 1, 0, WORDS)
        assert (asked["asked"], asked["reset"]) == (1, 1)

    def test_a_server_that_is_not_the_labs_is_a_fault(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        answering(alice, r"HTTP/1.0 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
        with pytest.raises(LabError, match="404 Not Found"):
            bob.ask("request", ("127.0.0.1", PORT), 1, 0, WORDS)

    def test_a_program_that_heeds_no_signal_ends_with_the_run(
        self, opening: AbstractContextManager[Host]
    ) -> None:
        mark = f"mark-{os.getpid()}-{id(self)}"
        with opening as server:
            alice = server.start("alice")
            shell(alice, "trap '' TERM INT HUP; while :; do sleep 1; done", mark)
            wait_until(lambda: len(marked(mark)) == 1, "it runs")
        assert marked(mark) == []

    def test_a_program_that_no_process_can_have(self, server: Host) -> None:
        plan = ProcessPlan("strange", server.plan.name, ALICE, (), program="frobnicate")
        with pytest.raises((Unsupported, CannotRun), match="frobnicate"):
            server.backend.start_process(plan)
