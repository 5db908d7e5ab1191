"""The playground: shells that join it, what they see of each other, and that nothing is left."""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.players import Shells, open_shells, prompt, typed
from tests.support import (
    DEADLINE,
    Finished,
    Machine,
    Terminal,
    look,
    look_at_life,
    need_program,
    new_token,
    run,
    wait_for_nothing,
    wait_until,
)

pytestmark = pytest.mark.namespaces

ALICE, BOB = ("alice", "server"), ("bob", "server")
LISTENS = r"listen\(3, 128\) = 0"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TERM", "vt100")
    return tmp_path / "bindlab"


@pytest.fixture
def token() -> str:
    return new_token()


@pytest.fixture
def before(token: str) -> Machine:
    return look(token)


@pytest.fixture
def shells(token: str, before: Machine) -> Iterator[Shells]:
    with open_shells(token) as opened:
        yield opened


def sockets(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def command(line: str, *options: str, token: str = "") -> Finished:
    return run("play", *options, "--command", line, BINDLAB_TEST_TOKEN=token or new_token())


def in_shell(shells: Shells, who: tuple[str, str], line: str, *patterns: str) -> str:
    return typed(shells.open(*who), line, *patterns, prompt=prompt(*who))


# --- joining ------------------------------------------------------------------------------


def test_a_second_shell_joins_the_first(shells: Shells, folder: Path) -> None:
    in_shell(shells, ALICE, "server &", LISTENS)
    seen = in_shell(shells, BOB, "evidence 8080; client server")
    assert re.search(r"0\.0\.0\.0:8080 +LISTEN +alice/64001 +server alice/\d+ ", seen), seen
    assert re.search(r"answered 1: alice/\d+ 1\n", seen), seen
    assert len(sockets(folder)) == 1
    shown = run("play", "--show", "--port", "8080")
    assert "server alice/" in shown.output
    assert "no socket on client" in shown.output


def test_a_command_joins_as_well(shells: Shells, folder: Path) -> None:
    in_shell(shells, ALICE, "server &", LISTENS)
    done = command("hostname; client server", "--user", "bob", "--host", "client")
    assert done.status == 0, done.text
    assert re.fullmatch(r"client\nanswered 1: alice/\d+ 1\n", done.output)


def test_another_one_beside_it(shells: Shells, folder: Path) -> None:
    shells.open(*ALICE)
    refused = command("true", "--lab", "euid")
    assert refused.status == 2
    assert "of no lab" in refused.errors
    assert command("hostname", "--lab", "euid", "--new", "--host", "elsewhere").status == 0
    wait_until(lambda: len(sockets(folder)) == 1, "the other is gone")


def test_several_are_told_apart(shells: Shells, token: str) -> None:
    shells.open(*ALICE)
    with open_shells(token, "--lab", "euid", "--new") as others:
        others.open("alice", "elsewhere")
        unclear = run("play", "--show")
        assert unclear.status == 2
        assert "of the lab euid" in unclear.errors
        assert command("hostname", "--lab", "euid").output == "server\n"


# --- the end ------------------------------------------------------------------------------


def leave_by_exit(shell: Terminal) -> None:
    shell.type("exit\n")
    # Not until nobody has the terminal: what runs in the background goes on.
    assert shell.process.wait(DEADLINE) == 0


def leave_by_closing(shell: Terminal) -> None:
    shell.close()


def leave_by_kill(shell: Terminal) -> None:
    shell.process.kill()


@pytest.mark.parametrize("leave", [leave_by_exit, leave_by_closing, leave_by_kill])
def test_it_is_gone_with_the_last_shell(
    leave: Callable[[Terminal], None], shells: Shells, token: str, before: Machine, folder: Path
) -> None:
    in_shell(shells, ALICE, "server &", LISTENS)
    bob = shells.open(*BOB)
    life = look_at_life(token)
    leave(shells.open(*ALICE))
    shells.open(*ALICE).process.wait(DEADLINE)
    typed(bob, "client server", "(answered|refused|reset) 1", prompt=prompt(*BOB))
    assert len(sockets(folder)) == 1
    leave(bob)
    assert wait_for_nothing(before, token, life=life) == {}
    assert sockets(folder) == []


def test_what_was_left_in_the_background_goes_on_until_then(shells: Shells) -> None:
    in_shell(shells, ALICE, "server &", LISTENS)
    shells.open(*BOB)
    leave_by_exit(shells.open(*ALICE))
    assert "answered 1" in in_shell(shells, BOB, "client server")


def test_a_playground_that_is_killed_ends_its_shells(
    shells: Shells, token: str, before: Machine, folder: Path
) -> None:
    alice = shells.open(*ALICE)
    life = look_at_life(token)
    (name,) = sockets(folder)
    os.kill(int(name.removeprefix("play-")), signal.SIGKILL)
    assert alice.wait() == 70
    assert "The playground has ended" in alice.output
    assert wait_for_nothing(before, token, life=life) == {}
    # Its socket is still there, and in nobody's way.
    assert sockets(folder) == [name]
    assert run("play", "--show").status == 2
    assert sockets(folder) == []


def test_a_command_that_is_killed_leaves_nothing(token: str, before: Machine) -> None:
    with contextlib.ExitStack() as stack:
        shells = Shells(stack, token)
        in_shell(shells, ALICE, "server &", LISTENS)
        life = look_at_life(token)
    assert wait_for_nothing(before, token, life=life) == {}


# --- the shell ----------------------------------------------------------------------------


def test_control_c_ends_the_server_and_not_the_shell(shells: Shells) -> None:
    alice = shells.open(*ALICE)
    alice.type("server\n")
    alice.read_until(LISTENS)
    alice.type("\x03")
    alice.read_until(prompt(*ALICE))
    assert "130" in in_shell(shells, ALICE, "echo status $?")
    alice.type("server\n")
    alice.read_until(LISTENS)
    alice.type("\x1a")
    alice.read_until("Stopped")
    in_shell(shells, ALICE, "bg; client server", "answered 1")


def test_the_evidence_says_what_ss_says() -> None:
    need_program("ss")
    line = (
        "server --reuseport --quiet & first=$!;"
        "until ss -Htln | grep -q 8080; do :; done;"
        "ss -Htlnpe sport = :8080; evidence 8080; kill $first"
    )
    done = command(line, "--user", "bob")
    assert done.status == 0, done.text
    found = re.search(r"pid=(\d+),fd=3\)\) uid:(\d+) ino:(\d+) ", done.output)
    assert found, done.output
    pid, uid, inode = found.groups()
    row = rf"0\.0\.0\.0:8080 +LISTEN +bob/{uid} +server bob/{pid} +port +0/128 +{inode}\n"
    assert re.search(row, done.output), done.output


def test_only_root_has_capabilities_and_may_be_others() -> None:
    done = command("grep CapEff /proc/self/status; id -un; as bob id")
    assert done.output == "CapEff:\t0000000000000000\nalice\n"
    assert done.errors == "as: Only root may become another user.\n"
    line = (
        "grep -c CapEff:.0000000000000000 /proc/self/status; as bob id -un; as bob@client hostname"
    )
    done = command(line, "--user", "root")
    assert done.output == "0\nbob\nclient\n", done.text
    refused = command("as carol id; as bob@nowhere id", "--user", "root")
    assert refused.errors.count("as: There is no ") == 2, refused.text


def test_a_lab_has_its_hosts_users_and_sysctls() -> None:
    sysctl = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    for host, start in (("open", "0"), ("server", "1024")):
        done = command(sysctl, "--lab", "containers", "--host", host)
        assert done.output == f"{start}\n", done.text
    able = command("grep CapEff /proc/self/status", "--lab", "containers")
    assert int(able.output.split()[1], 16) == 1 << 10  # CAP_NET_BIND_SERVICE


@pytest.mark.parametrize(
    ("line", "status"),
    [("true", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("server --port 80", 1)],
)
def test_a_command_ends_with_its_status(line: str, status: int) -> None:
    assert command(line).status == status


# --- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--user", "carol"), "carol"),
        (("--host", "nowhere"), "server, client"),
        (("--lab", "nothing"), "nothing"),
        (("--lang", "xx"), "xx"),
        (("--seed", "x"), "seed"),
        (("--port", "80"), "--show"),
        (("--show",), "No playground is open"),
    ],
)
def test_what_there_is_not(options: tuple[str, ...], word: str, folder: Path) -> None:
    done = command("true", *options)
    assert done.status == 2
    assert word in done.errors
    assert "Traceback" not in done.errors
    assert not folder.exists() or sockets(folder) == []


def test_a_shell_needs_a_terminal() -> None:
    done = run("play")
    assert done.status == 2
    assert "--command" in done.errors


def test_a_folder_that_others_may_enter_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    done = command("true")
    assert done.status == 70
    assert "not yours alone" in done.errors


def test_where_there_can_be_no_namespaces() -> None:
    done = run("play", "--command", "true", prefix=("prlimit", "--nofile=64"))
    assert done.status == 125, done.text
    assert "open files" in done.errors
