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
from labs.engine.model import Call, name_errno
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
sees_all = pytest.mark.root_only  # the processes of all users, and their sockets

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


@sees_all
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


@sees_all
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


@sees_all
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


@sees_all
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


def test_a_broadcast_address_can_be_bound(machine: Machine) -> None:
    """That of a network; the kernel asks for an address of the host's or for such a one."""
    address = "10.77.255.255"
    assert ask(machine, ALICE.uid, address=address)[2].verdict is Verdict.ACCEPTED
    listen(machine, "bob", address)
    assert ask(machine, ALICE.uid, address=address)[2].verdict is Verdict.REFUSED
    ruling = ask(machine, ALICE.uid, address="10.77.255.254")[2]
    assert ruling.replies[0].errno == "EADDRNOTAVAIL"


def test_the_loopback_of_ipv6_is_los_alone(machine: Machine) -> None:
    """A socket on another device cannot be bound to it; to that of IPv4 it can."""
    (six,) = make(machine, "bob", Call("socket", (socket.AF_INET6, socket.SOCK_STREAM, 0)))
    device = Call("setsockopt", (six, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, "eth0"))
    make(machine, "bob", device)
    bind = Call("bind", (six, ("::1", PORT)))
    (result,) = machine.backend.perform("bob", [bind], go_on=True)
    ruling = ask(machine, BOB.uid, address="::1", device="eth0")[2]
    assert name_errno(result.errno) == ruling.replies[0].errno == "EADDRNOTAVAIL"
    for address, other in (("127.0.0.1", "eth0"), ("::1", "lo"), ("::1", "")):
        assert ask(machine, BOB.uid, address=address, device=other)[2].replies[0].errno == ""


BIND = """
import socket, sys
address, port = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family) as one:
    try:
        one.bind((address, int(port)))
        one.listen()
    except OSError as error:
        print(error.errno)
    else:
        print(0)
"""


def answers(prefix: tuple[str, ...], address: str, port: int) -> tuple[str, str]:
    """What is said of a bind() behind such commands, and what the kernel answers there."""
    done = run("port.why", str(port), "--address", address, "--json", "-", prefix=prefix)
    (answer,) = json.loads(done.output)["answers"]
    command = [*prefix, sys.executable, "-c", BIND, address, str(port)]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    return answer["errno"], name_errno(int(made.stdout)) if int(made.stdout) else ""


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
@pytest.mark.parametrize("address", ["198.51.100.1", "::ffff:198.51.100.1", "2001:db8::1"])
def test_an_address_that_is_not_here_may_be_bound(version: str, address: str) -> None:
    """Where ip_nonlocal_bind says so: that of IPv4 is for mapped addresses as well."""
    switch = f"/proc/sys/net/{version}/ip_nonlocal_bind"
    allow = f'ip link set lo up && echo 1 > {switch} && exec "$@"'
    said, answered = answers(("unshare", "-Urn", "sh", "-c", allow, "sh"), address, PORT)
    is_allowed = (address == "2001:db8::1") == (version == "ipv6")
    assert said == answered == ("" if is_allowed else "EADDRNOTAVAIL")


@pytest.mark.parametrize(("flags", "is_above"), [("-Ur", False), ("-Urn", True)])
def test_a_root_has_the_low_ports_of_its_own_networks(flags: str, is_above: bool) -> None:
    """Not those of a network namespace that belongs to the user namespace above."""
    prefix = ("unshare", flags)
    said, answered = answers(prefix, "127.0.0.1", 7)
    assert said == answered
    if is_above:
        assert said in ("", "EADDRNOTAVAIL")  # its lo may be down
    else:
        assert said == "EACCES"


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
        (("80", "--user", "who-is-this"), "no user 'who-is-this'"),
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


def test_nothing_is_seen_without_proc() -> None:
    hide = 'mount -t tmpfs none /proc && exec "$@"'
    done = run("port.why", "80", prefix=("unshare", "-Urm", "sh", "-c", hide, "sh"))
    assert (done.status, done.output) == (125, "")
    assert done.errors.startswith("bindlab: Nothing can be seen without /proc.")
    assert "Traceback" not in done.errors


SHOWS_ALL = "from labs.engine.port.processes import shows_all; print(shows_all())"
HIDE = (
    "mount -t proc -o hidepid=2 none /proc && "
    'exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'
)


@pytest.mark.parametrize(
    "prefix",
    [
        ("unshare", "-Urpf", "--mount-proc"),
        pytest.param(("unshare", "-m", "sh", "-c", HIDE, "sh"), marks=pytest.mark.root_only),
    ],
)
def test_who_sees_not_all_processes_knows_it(prefix: tuple[str, ...], readable: Path) -> None:
    """Those of another pid namespace, and those that hidepid hides, are not so much as hidden."""
    command = [*prefix, sys.executable, "-c", SHOWS_ALL]
    done = subprocess.run(command, cwd=readable, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@sees_all
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
        assert "of the processes may not be looked into" in " ".join(text.split())


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
    assert f"port.why 80 --user {NOBODY} --netns {machine.pid}" in done.errors
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
