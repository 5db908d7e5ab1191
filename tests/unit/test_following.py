"""The follower: what it makes of calls, and where it knows that it does not know; on the fake."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from socket import AF_UNIX, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET

import pytest

from labs.engine.authoring.reasons import compare_rules
from labs.engine.backends.fake import FakeBackend
from labs.engine.decision import Decision
from labs.engine.errors import ExitStatus
from labs.engine.following.follower import Follower, follow
from labs.engine.layout import Layout
from labs.engine.model import Call, CallResult, Event, Ok, Refused, RunEnded, StepEnded, StepStarted
from labs.engine.rules.rulebook import rules_of
from labs.engine.rules.rules import BOTH_REUSEPORT
from labs.engine.runner import run_lab
from labs.engine.script import (
    EADDRINUSE,
    FROM_RULES,
    OK,
    Host,
    Run,
    connect_unix,
    exactly,
    hand_over,
    lab,
)
from labs.engine.session import Session

PORT = 8080
Body = Callable[[Run, Host], None]


class Kernel(FakeBackend):
    """A fake that says which kernel it is, and refuses what it is told to."""

    def __init__(self, kernel: str = "6.18.44", refused: str = "") -> None:
        super().__init__()
        self.kernel = kernel
        self._refused = refused

    def perform(
        self, process: str, calls: Sequence[Call], *, go_on: bool = False
    ) -> Sequence[CallResult]:
        results = list(super().perform(process, calls, go_on=go_on))
        if process == self._refused and results[-1].errno == 0 and calls[-1].name == "listen":
            results[-1] = replace(results[-1], value=None, errno=98)
        return results


def run_body(body: Body, backend: FakeBackend | None = None) -> list[Event]:
    """Run a lab that has one host; returns the events."""

    @lab("trial", title="A lab of the tests")
    def trial(run: Run) -> None:
        body(run, run.host("server"))

    events: list[Event] = []
    run_lab(trial, backend or Kernel(), Layout(None), [events.append])
    (ended,) = [event for event in events if isinstance(event, RunEnded)]
    assert not ended.error or "rules do not say" in ended.error, ended.error
    return events


def decisions(events: Sequence[Event]) -> list[Decision | None]:
    return [event.decision for event in events if isinstance(event, StepEnded)]


def reason(body: Body, backend: FakeBackend | None = None) -> str:
    """By which rule the last step of a body was decided; empty where that is not known."""
    last = decisions(run_body(body, backend))[-1]
    assert last is None or last.agrees
    return last.reason if last else ""


# --- what calls come to -------------------------------------------------------------------


def test_a_start_is_decided_by_its_bind() -> None:
    def body(run: Run, host: Host) -> None:
        with run.step("Alice starts", expect=OK, why="?"):
            host.process("alice", user="alice").listen(PORT, reuseport=True)

    (found,) = decisions(run_body(body))
    assert found is not None
    assert (found.call, found.rule, found.sentence) == ("bind", "free", "Nobody is on the port.")


def test_a_refusal_names_whose_socket_it_is_and_what_lacks() -> None:
    def body(run: Run, host: Host) -> None:
        alice, bob = (host.process(user, user=user) for user in ("alice", "bob"))
        with run.step("Bob asks", expect=EADDRINUSE, why="?"):
            alice.listen(PORT, reuseport=True)
            bob.listen(PORT, reuseport=True)

    (found,) = decisions(run_body(body))
    assert found is not None
    assert found.reason == "taken: both-reuseport lacks same-owner"
    assert (found.call, found.errno, found.port) == ("bind", "EADDRINUSE", PORT)
    assert (found.holder, found.state) == ("alice", "LISTEN")


def test_a_refusal_decides_whatever_comes_after_it() -> None:
    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        with run.step("One is refused, another not", expect=EADDRINUSE, why="?"):
            alice.listen(PORT)
            try:
                alice.listen(PORT)
            except OSError:
                alice.listen(PORT + 1)

    assert reason(body).startswith("taken")


def test_an_owner_is_who_made_the_socket_or_got_it() -> None:
    def body(run: Run, host: Host) -> None:
        host.process("alice", user="alice")
        root = host.process("root", user="root", capabilities=["CAP_SETUID", "CAP_CHOWN"])
        with run.step("Root's socket is Alice's, and so is another's", expect=OK, why="?"):
            root.seteuid("alice")
            one = root.socket()
            root.seteuid("root")
            two = root.socket()
            two.fchown("alice")
            for socket in (one, two):
                socket.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
                socket.bind(("0.0.0.0", PORT))

    assert reason(body) == "remembered-reuseport"


@pytest.mark.parametrize("way", ["fork", "pass", "copy"])
def test_a_socket_is_there_until_its_last_descriptor_is_closed(way: str) -> None:
    def body(run: Run, host: Host) -> None:
        alice, bob = (host.process(user, user=user) for user in ("alice", "bob"))
        with run.step("It lives on", expect=EADDRINUSE, why="?"):
            listener = alice.listen(PORT)
            if way == "fork":
                other = alice.fork("child").inherited(listener)
            elif way == "pass":
                other = hand_over(listener, bob)
            else:
                other = host.process("keeper", user="alice").pidfd_getfd(listener)
            listener.close()
            host.process("carol", user="carol").listen(PORT)
        with run.step("It is closed", expect=OK, why="?"):
            other.process.kill()
            host.process("dave", user="dave").listen(PORT)

    first, last = decisions(run_body(body))
    assert first and first.errno == "EADDRINUSE" and first.agrees
    assert last and last.rule == "free"


def test_what_is_on_its_way_is_there() -> None:
    def body(run: Run, host: Host) -> None:
        alice, bob = (host.process(user, user=user) for user in ("alice", "bob"))
        with run.step("It was sent and is closed", expect=EADDRINUSE, why="?"):
            near, _ = connect_unix(alice, bob)
            listener = alice.listen(PORT)
            near.send_fds(listener)
            listener.close()
            bob.listen(PORT)

    assert reason(body).startswith("taken")


def test_a_connection_holds_the_port_and_then_leaves_it() -> None:
    def body(run: Run, host: Host) -> None:
        alice, bob = (host.process(user, user=user) for user in ("alice", "bob"))
        with run.step("The connection is there", expect=EADDRINUSE, why="?"):
            listener = alice.listen(PORT)
            client = bob.connect((host.ipv4, PORT))
            served = listener.accept()
            listener.close()
            alice.listen(PORT)
        with run.step("It is over", expect=OK, why="?"):
            client.close()
            served.close()
            alice.listen(PORT)

    first, last = decisions(run_body(body))
    assert first and (first.rule, first.state, first.agrees) == ("taken", "CONNECTED", True)
    assert last and last.rule == "free"


def test_a_network_namespace_of_its_own_has_its_ports() -> None:
    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        other = run.host("other").process("bob", user="bob")
        with run.step("Elsewhere it is free", expect=OK, why="?"):
            alice.listen(PORT)
            other.listen(PORT)

    assert reason(body) == "free"


def test_the_version_of_the_run_s_kernel_decides() -> None:
    def body(run: Run, host: Host) -> None:
        alice, bob = (host.process(user, user=user) for user in ("alice", "bob"))
        with run.step("Both bind", expect=OK, why="?"):
            alice.bind(PORT, SO_REUSEADDR)
            bob.bind(PORT, SO_REUSEADDR)

    assert reason(body, Kernel("6.1.176")) == "remembered-reuseaddr"
    assert reason(body, Kernel("6.18.44")) == "both-reuseaddr"


# --- where it does not know ---------------------------------------------------------------


def test_a_step_that_measures_names_no_rule() -> None:
    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        with run.step("One listens", expect=exactly(1, "listener"), why="?") as step:
            alice.listen(PORT)
            step.measured(1)

    assert reason(body) == ""


def test_a_unix_socket_is_no_matter_of_the_rules() -> None:
    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        with run.step("A door", expect=OK, why="?"):
            door = alice.socket(AF_UNIX)
            door.bind("\0door")
            door.listen()

    assert reason(body) == ""


def test_a_stranger_s_port_is_not_known() -> None:
    class Strange(Kernel):
        """A kernel with a listener that no agent made."""

        def observe(self, host: str):  # type: ignore[no-untyped-def]
            seen = super().observe(host)
            rows = tuple(replace(row, local=("127.0.0.1", PORT)) for row in seen.sockets)
            return replace(seen, sockets=(*seen.sockets, *rows))

    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        with run.step("A program starts", expect=OK, why="?"):
            alice.fork("helper").exec("/bin/sleep", "60")
        with run.step("Alice listens elsewhere", expect=OK, why="?"):
            alice.listen(PORT + 1)
        with run.step("Bob asks where the stranger is", expect=OK, why="?"):
            host.process("bob", user="bob").listen(PORT)

    *_, known, unknown = decisions(run_body(body, Strange()))
    assert known and known.rule == "free"
    assert unknown is None


def test_no_rule_is_for_a_kernel_without_a_version() -> None:
    assert follow("a kernel") is None


# --- where the kernel answers otherwise ---------------------------------------------------


def test_the_kernel_decides_and_what_the_rules_say_is_a_finding() -> None:
    def body(run: Run, host: Host) -> None:
        with run.step("Alice listens", expect=EADDRINUSE, why="?"):
            alice = host.process("alice", user="alice")
            socket = alice.socket()
            socket.listen()

    events = run_body(body, Kernel(refused="alice"))
    (found,) = decisions(events)
    assert found and (found.errno, found.rule, found.agrees) == ("", "some-port", False)
    (ended,) = [event for event in events if isinstance(event, RunEnded)]
    assert ended.status == ExitStatus.PASSED
    (said,) = compare_rules(events)
    assert "the rules say OK by some-port, the kernel EADDRINUSE from listen()" in said


def test_rules_that_are_wrong_are_found() -> None:
    """A rulebook without the rule by which a group forms."""
    book = rules_of((6, 18))
    shares = tuple(share for share in book.tcp_shares if share is not BOTH_REUSEPORT)
    follower = Follower(replace(book, tcp_shares=shares, recalls=()))
    events: list[Event] = []
    run = Run(Session(Kernel(), Layout(None), events.append, follower))
    host = run.host("server")
    with run.step("A group forms", expect=OK, why="?", rule="remembered-reuseport"):
        for name in ("one", "two"):
            host.process(name, user="alice").listen(PORT, reuseport=True)
    (found,) = decisions(events)
    assert found and (found.errno, found.agrees) == ("EADDRINUSE", False)
    assert len([*compare_rules(events)]) == 1


# --- what steps say of rules --------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("free", ""),
        ("", "does not say by which rule it is decided: rule='free'"),
        ("taken", "says rule='taken', and is decided by 'free'"),
        ("free: both-reuseport lacks same-owner", "and is decided by 'free'"),
    ],
)
def test_what_a_step_says_of_a_rule_is_held_to_it(rule: str, said: str) -> None:
    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        with run.step("Alice listens", expect=OK, why="?", rule=rule):
            alice.listen(PORT)

    found = [*compare_rules(run_body(body))]
    assert len(found) == bool(said)
    assert all(said in line for line in found)


def test_a_step_that_no_rule_decides_cannot_name_one() -> None:
    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        with run.step("Alice makes a socket", expect=OK, why="?", rule="free"):
            alice.socket()

    (said,) = compare_rules(run_body(body))
    assert "the rules do not decide it" in said


def test_a_step_that_measures_cannot_name_a_rule() -> None:
    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        with run.step("Alice listens", expect=exactly(1, "listener"), why="?", rule="free") as step:
            alice.listen(PORT)
            step.measured(1)

    (said,) = compare_rules(run_body(body))
    assert "the rules do not decide it" in said


# --- what is left to the rules ------------------------------------------------------------


def ask_twice(run: Run, host: Host) -> None:
    alice, bob = (host.process(user, user=user) for user in ("alice", "bob"))
    with run.step("Alice binds", expect=FROM_RULES, why="?"):
        alice.bind(PORT, SO_REUSEADDR)
    with run.step("Bob asks", expect=FROM_RULES, why="?"):
        bob.bind(PORT)


def test_what_is_left_to_the_rules_stands_before_it_is_done() -> None:
    events = run_body(ask_twice)
    expected = [event.expected for event in events if isinstance(event, StepStarted)]
    assert expected == [Ok(), Refused("EADDRINUSE", "bind")]
    (ended,) = [event for event in events if isinstance(event, RunEnded)]
    assert ended.status == ExitStatus.PASSED


def test_rules_that_are_wrong_make_a_step_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def everybody(_: str) -> Follower:
        """By rules that let everybody share."""
        book = rules_of((6, 18))
        return Follower(
            replace(
                book,
                tcp_shares=tuple(
                    replace(share, admits=lambda *_: True) for share in book.tcp_shares
                ),
            )
        )

    monkeypatch.setattr("labs.engine.foresight.follow", everybody)
    events = run_body(ask_twice)
    (ended,) = [event for event in events if isinstance(event, RunEnded)]
    assert ended.status == ExitStatus.DIFFERS


def test_what_the_rules_do_not_say_cannot_be_left_to_them() -> None:
    def body(run: Run, host: Host) -> None:
        alice = host.process("alice", user="alice")
        with run.step("Alice makes a socket", expect=FROM_RULES, why="?"):
            alice.socket()

    (ended,) = [event for event in run_body(body) if isinstance(event, RunEnded)]
    assert "The rules do not say what comes of step 1" in ended.error
    assert ended.status == ExitStatus.FAILED
