"""port.why beside real sockets: what it says, and what the kernel answers right after."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labs.engine.errors import UsageError
from labs.engine.model import Call
from labs.engine.port.machine import see
from labs.engine.port.processes import describe
from labs.engine.port.question import Question
from labs.engine.port.ruling import Doubt, Verdict, judge
from labs.engine.rules.calls import Acknowledge
from labs.engine.rules.sockets import UDP
from labs.engine.verification.cell import ALICE, BOB
from labs.engine.verification.table import make_table
from tests import ports
from tests.ports import Machine, compare, open_machine, part
from tests.support import copy_tree, need_program, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.port.question import Question as Asked
    from labs.engine.port.ruling import Ruling
    from labs.engine.port.sight import Sight

pytestmark = pytest.mark.namespaces

EVERY = 17  # of the table's situations one in so many
REUSEPORT = (socket.SOL_SOCKET, socket.SO_REUSEPORT)
REUSEADDR = (socket.SOL_SOCKET, socket.SO_REUSEADDR)
PORT = 1_900  # below all that the table has
NOBODY = 65_534


@pytest.fixture
def machine() -> Iterator[Machine]:
    with open_machine() as opened:
        yield opened


def make(machine: Machine, process: str, *calls: Call) -> list[Any]:
    return [result.value for result in machine.backend.perform(process, calls)]


def listen(
    machine: Machine,
    process: str,
    address: str = "0.0.0.0",
    *options: tuple[int, int],
    port: int = PORT,
    kind: int = socket.SOCK_STREAM,
    is_listening: bool = True,
) -> int:
    """Let a process bind, and listen: the descriptor."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    (descriptor,) = make(machine, process, Call("socket", (int(family), int(kind), 0)))
    calls = [Call("setsockopt", (descriptor, *option, 1)) for option in options]
    calls.append(Call("bind", (descriptor, (address, port))))
    if is_listening:
        calls.append(Call("listen", (descriptor, 8)))
    make(machine, process, *calls)
    return int(descriptor)


def why(machine: Machine, *arguments: str, status: int) -> dict[str, Any]:
    """What the command says as data."""
    done = run("port.why", str(PORT), "--netns", str(machine.pid), "--json", "-", *arguments)
    assert done.status == status, done
    assert done.errors == ""
    document: dict[str, Any] = json.loads(done.output)
    return document


def ask(machine: Machine, uid: int, **changes: Any) -> tuple[Asked, Sight, Ruling]:
    question = Question(PORT, machine.outside(uid), netns=machine.pid, **changes)
    sight = see(question)
    return question, sight, judge(question, sight)


# --- the proof ----------------------------------------------------------------------------


def test_what_it_says_is_what_the_kernel_answers(machine: Machine) -> None:
    """To who may see all of it, and to who may look into no process."""
    agreement = compare(machine, EVERY)
    verdicts = agreement.verdicts
    assert agreement.mismatches == []
    assert sum(verdicts.values()) > 600
    assert all(verdicts[eyes, verdict] > 5 for eyes in ("all", "few") for verdict in Verdict)
    assert len(agreement.named) < 0.02 * sum(verdicts.values())
    # What is left open to who sees all: what remains of connections, and what ports remember.
    assert verdicts["all", Verdict.UNDECIDED] < 0.2 * sum(verdicts.values()) / 2


def test_a_wrong_rule_would_be_seen(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes any two with SO_REUSEPORT for one user's is caught."""
    monkeypatch.setattr(ports, "judge", judge_as_one_user)
    assert compare(machine, 4 * EVERY).mismatches


def judge_as_one_user(question: Asked, sight: Sight) -> Ruling:
    rows = tuple(replace(one, row=one.row._replace(owner=question.uid)) for one in sight.taken)
    return judge(question, replace(sight, taken=rows))


def test_the_table_has_what_is_needed() -> None:
    situations = [found for cell in make_table() if (found := part(cell))][::EVERY]
    kinds = {type(call) for one in situations for call in one.before}
    assert Acknowledge in kinds
    assert len(situations) > 300


# --- who holds it -------------------------------------------------------------------------


def test_a_listener_of_another_user(machine: Machine) -> None:
    listen(machine, "bob", "0.0.0.0", REUSEPORT)
    alice, bob = machine.outside(ALICE.uid), machine.outside(BOB.uid)
    document = why(machine, "--user", str(alice), "--reuseport", status=3)
    (answer,) = document["answers"]
    assert (answer["call"], answer["errno"], answer["rule"]) == ("bind", "EADDRINUSE", "taken")
    (there,) = document["sockets"]
    assert (there["owner"], there["reuseaddr"], there["reuseport"]) == (bob, False, True)
    assert there["in_the_way"] is True
    (holder,) = there["holders"]
    assert (holder["command"], holder["uid"], holder["uid_inside"]) == ("bob", bob, BOB.uid)
    assert [one["kind"] for one in document["advice"]] == ["user-reuseport", "stop", "hand-over"]
    assert why(machine, "--user", str(bob), "--reuseport", status=0)["verdict"] == "accepted"


def test_a_listener_that_is_inherited_has_all_its_holders(machine: Machine) -> None:
    listen(machine, "bob")
    child = machine.backend.fork_process("bob", "child").pid
    _, sight, _ = ask(machine, ALICE.uid)
    (taken,) = sight.taken
    assert len(taken.holders) == 2
    assert child not in {holder.pid for holder in taken.holders}  # it has another number out here
    assert {holder.inside for holder in taken.holders} == {BOB.uid}


def test_a_socket_that_is_only_bound(machine: Machine) -> None:
    listen(machine, "bob", "127.0.0.1", is_listening=False)
    _, sight, ruling = ask(machine, ALICE.uid)
    assert [taken.row.state for taken in sight.taken] == ["CLOSE"]
    assert ruling.verdict is Verdict.REFUSED
    _, _, elsewhere = ask(machine, ALICE.uid, address="127.0.0.2")
    assert elsewhere.verdict is Verdict.ACCEPTED
    assert elsewhere.replies[0].rule.name == "other-address"


def test_a_udp_socket(machine: Machine) -> None:
    listen(machine, "bob", kind=socket.SOCK_DGRAM, is_listening=False)
    assert ask(machine, ALICE.uid)[2].verdict is Verdict.ACCEPTED
    assert ask(machine, ALICE.uid, protocol=UDP)[2].verdict is Verdict.REFUSED


def test_a_listener_on_all_addresses_of_both_families(machine: Machine) -> None:
    listen(machine, "bob", "::")
    document = why(machine, status=3)
    assert document["sockets"][0]["v6only"] is False
    assert [one["address"] for one in document["sockets"]] == ["::"]


def test_a_low_port(machine: Machine) -> None:
    question = Question(80, machine.outside(ALICE.uid), netns=machine.pid)
    ruling = judge(question, see(question))
    assert ruling.replies[0].errno == "EACCES"


def test_time_wait(machine: Machine) -> None:
    """Who has closed a connection first, with SO_REUSEADDR, lets in who has it too."""
    server = listen(machine, "bob", "127.0.0.1", REUSEADDR)
    (client,) = make(machine, "alice", Call("socket", (socket.AF_INET, socket.SOCK_STREAM, 0)))
    make(machine, "alice", Call("connect", (client, ("127.0.0.1", PORT))))
    (accepted,) = make(machine, "bob", Call("accept", (server,)))
    make(machine, "bob", Call("close", (accepted,)), Call("close", (server,)))
    make(machine, "alice", Call("recv", (client, 1)), Call("close", (client,)))
    document = why(machine, status=3)
    (rest,) = document["sockets"]
    assert (rest["state"], rest["owner"], rest["holders"]) == ("TIME_WAIT", None, [])
    assert 0 < rest["time_wait_ms"] <= 60_000
    assert [one["kind"] for one in document["advice"]] == ["reuseaddr-rest", "wait", "address"]
    document = why(machine, "--reuseaddr", status=125)
    assert document["depends_on"] == [Doubt.REST]
    assert [one["kind"] for one in document["unseen"]] == ["rest"]
    listen(machine, "alice", "127.0.0.1", REUSEADDR)  # it had it


def test_a_free_port_that_is_taken_elsewhere(machine: Machine) -> None:
    listen(machine, "elsewhere", port=PORT)
    question, sight, ruling = ask(machine, ALICE.uid)
    assert ruling.verdict is Verdict.ACCEPTED
    pids = {one.pid for one in sight.elsewhere}
    there = {machine.backend.first_process("two"), machine.pids["elsewhere"]}
    names = {found.command for pid in pids if (found := describe(pid))}
    assert pids & there or "elsewhere" in names, sight.elsewhere
    assert question.netns == machine.pid


# --- what cannot be -----------------------------------------------------------------------


def test_a_process_that_there_is_not() -> None:
    done = run("port.why", "80", "--netns", str((1 << 22) - 1))
    assert (done.status, done.output) == (2, "")
    assert "There is no process 4194303" in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("0",), "0 is no port"),
        (("65536",), "65536 is no port"),
        (("http",), "http is no port"),
        (("80", "--address", "nowhere"), "'nowhere' is no address"),
        (("80", "--user", "who-is-this"), "no user who-is-this"),
        (("80", "--netns", "x"), "--netns"),
        (("80", "--lang", "xx"), "no language xx"),
        (("80", "--json", "a.jsonl"), ".jsonl"),
    ],
)
def test_a_usage_error_is_a_message(arguments: tuple[str, ...], word: str) -> None:
    done = run("port.why", *arguments)
    assert (done.status, done.output) == (2, "")
    assert word in done.errors
    assert "Traceback" not in done.errors


def test_processes_that_vanish_while_they_are_read(machine: Machine) -> None:
    """Others come and go all the time, which is no fault of whoever looks."""
    listen(machine, "bob")
    churn = "import os\nwhile True:\n    os.waitpid(os.posix_spawnp('true', ['true'], {}), 0)\n"
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            process = subprocess.Popen([sys.executable, "-c", churn])
            stack.callback(process.wait)
            stack.callback(process.kill)
        for _ in range(30):
            _, sight, ruling = ask(machine, ALICE.uid)
            assert ruling.verdict is Verdict.REFUSED
            assert len(sight.taken[0].holders) == 1


def test_a_holder_that_vanishes(machine: Machine) -> None:
    listen(machine, "bob")
    ask(machine, ALICE.uid)
    machine.backend.end_process("bob", signal.SIGKILL)
    _, sight, ruling = ask(machine, ALICE.uid)
    assert (sight.taken, ruling.verdict) == ((), Verdict.ACCEPTED)
    assert describe((1 << 22) - 1) is None


# --- an ordinary user ---------------------------------------------------------------------

SERVER = """
import os, socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind(("127.0.0.1", 0))
server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def serving(*prefix: str) -> Iterator[int]:
    """A server on this very machine, started by a command: its port."""
    command = [*prefix, sys.executable, "-c", SERVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield int(process.stdout.readline())
        finally:
            process.communicate()


def as_nobody(folder: Path, *arguments: str) -> Any:
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return run(*arguments, prefix=prefix, folder=folder, HOME=str(folder))


@pytest.fixture
def readable() -> Iterator[Path]:
    """A copy of the project that everybody may read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield copy_tree(folder)


@pytest.mark.root_only
def test_who_may_see_little_says_what_it_did_not_see(readable: Path) -> None:
    with serving() as port:
        where = ("port.why", str(port), "--address", "127.0.0.1")
        done = as_nobody(readable, *where, "--json", "-")
        assert done.status == 3, done
        document = json.loads(done.output)
        (there,) = document["sockets"]
        assert (there["owner"], there["holders"]) == (0, [])
        assert there["reuseaddr"] is there["reuseport"] is None
        (unseen,) = document["unseen"]
        assert unseen["kind"] == "holders"
        assert "sudo" in unseen["how"]
        text = as_nobody(readable, *where).output
        assert "unknown" in text
        assert "other users may not be looked into" in " ".join(text.split())


@pytest.mark.root_only
def test_what_depends_on_what_may_not_be_seen_is_not_guessed(readable: Path) -> None:
    """Root's listener may have SO_REUSEPORT, and root would be let in then."""
    with serving() as port:
        where = ("port.why", str(port), "--address", "127.0.0.1", "--user", "0", "--reuseport")
        done = as_nobody(readable, *where, "--json", "-")
        assert done.status == 125, done
        assert Doubt.OPTIONS in json.loads(done.output)["depends_on"]
        assert run(*where).status == 0


@pytest.mark.root_only
def test_another_namespace_that_may_not_be_entered(machine: Machine, readable: Path) -> None:
    done = as_nobody(readable, "port.why", "80", "--netns", str(machine.pid))
    assert (done.status, done.output) == (125, "")
    assert f"process {machine.pid} cannot be entered" in done.errors
    assert "root" in done.errors
    assert "Traceback" not in done.errors


# --- what it does to the machine ----------------------------------------------------------

FORBIDDEN = "bind,listen,connect,kill,tkill,tgkill,setsockopt,pidfd_send_signal,accept,accept4"


@pytest.mark.parametrize("where", ["here", "there"])
def test_it_only_looks(machine: Machine, where: str, tmp_path: Path) -> None:
    """No call of it could change anything, neither here nor where it looks."""
    need_program("strace")
    listen(machine, "bob", "0.0.0.0", REUSEPORT)
    trace = tmp_path / "trace"
    prefix = ("strace", "-f", "-qq", "-e", f"trace={FORBIDDEN}", "-o", str(trace))
    arguments = ["--netns", str(machine.pid)] if where == "there" else []
    done = run("port.why", str(PORT), *arguments, prefix=prefix)
    assert done.status in (0, 3), done
    calls = [line for line in trace.read_text().splitlines() if "(" in line]
    assert [line for line in calls if not is_harmless(line)] == []
    before = see(Question(PORT, 0, netns=machine.pid)).taken
    run("port.why", str(PORT), *arguments)
    assert see(Question(PORT, 0, netns=machine.pid)).taken == before


def is_harmless(line: str) -> bool:
    """Whether a call of strace's is none on a socket of the network."""
    return bool(re.search(r"AF_NETLINK|AF_UNIX|--- SIG|\+\+\+ exited", line))


def test_strace_would_see_it(tmp_path: Path) -> None:
    need_program("strace")
    trace = tmp_path / "trace"
    script = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()"
    prefix = ["strace", "-f", "-qq", "-e", f"trace={FORBIDDEN}", "-o", str(trace)]
    subprocess.run([*prefix, sys.executable, "-c", script], check=True)
    assert [line for line in trace.read_text().splitlines() if not is_harmless(line)]


def test_who_looks_stays_where_it_is(machine: Machine) -> None:
    before = os.readlink("/proc/self/ns/net")
    ask(machine, ALICE.uid)
    assert os.readlink("/proc/self/ns/net") == before
    with pytest.raises(UsageError):
        see(Question(PORT, 0, netns=(1 << 22) - 1))
    assert os.readlink("/proc/self/ns/net") == before


def test_no_descriptor_is_left_open(machine: Machine) -> None:
    listen(machine, "bob")
    ask(machine, ALICE.uid)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        ask(machine, ALICE.uid)
    assert os.listdir("/proc/self/fd") == before
