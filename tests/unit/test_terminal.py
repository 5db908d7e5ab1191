"""The terminal view, from events alone."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from labs.engine.decision import Decision, Missing
from labs.engine.model import (
    ENGINE,
    CallMade,
    Concluded,
    Credentials,
    Event,
    Evidence,
    Failed,
    Finding,
    HostOpened,
    Measured,
    Ok,
    Predicted,
    ProcessEvidence,
    ProcessStarted,
    Quantity,
    Refused,
    RunEnded,
    RunStarted,
    Skipped,
    SocketEvidence,
    SocketRow,
    StepEnded,
    StepStarted,
    Succeeded,
    Verdict,
)
from labs.engine.rules.lacking import Lack
from labs.engine.rules.sockets import State
from labs.engine.translation import read_translation
from labs.engine.views import terminal
from labs.engine.views.digest import grouped
from labs.engine.views.picture import PictureView
from labs.engine.views.reasons import (
    BESIDE,
    BOTH,
    HOLDERS,
    LACKS,
    LEFT,
    NEAREST,
    NOBODYS,
    OTHERWISE,
    REFUSED,
)
from labs.engine.views.terminal import TerminalView, aligned

ALICE = Credentials(64001, 64001, 64001, 64001)
MIXED = ProcessEvidence("alice", Credentials(64001, 64002, 64002, 64002), 0)
RUN = RunStarted(
    "euid", "A title", "A claim", "1.0", "namespaces", "6.18", "", 7, "2026-01-01T00:00:00+00:00"
)


class Terminal(io.StringIO):
    """A terminal that writes down what it is given."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def connection(
    local: tuple[str, int], peer: tuple[str, int], state: str = "ESTABLISHED"
) -> SocketEvidence:
    row = SocketRow("tcp", state, local, peer, 64001, 9, 0, 0)
    return SocketEvidence(row, "alice", ("alice",), False, True)


LISTENER = SocketEvidence(
    SocketRow("tcp", "LISTEN", ("0.0.0.0", 80), ("0.0.0.0", 0), 64001, 7, 2, 128),
    "alice",
    ("alice", "child"),
    False,
    True,
)


def show(events: list[Event], stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    view = TerminalView(stream)
    for event in events:
        view(event)
    return stream.getvalue()


def one_step(
    outcome: object = Succeeded(),
    verdict: Verdict = Verdict.PASSED,
    calls: int = 1,
    process: ProcessEvidence = MIXED,
    socket: SocketEvidence = LISTENER,
) -> list[Event]:
    evidence = Evidence("server", (socket,), (process,))
    made = [CallMade("alice", 64002, "bind(3, 0.0.0.0:80)", "0", "") for _ in range(calls)]
    return [
        RUN,
        ProcessStarted("alice", "server", "alice", 2, ALICE),
        StepStarted(1, "Alice listens", Ok(), "Because it is free."),
        *made,
        StepEnded(1, outcome, verdict, (evidence,)),  # type: ignore[arg-type]
        RunEnded(0),
    ]


def test_a_step_shows_calls_evidence_outcome_and_reason() -> None:
    lines = show(one_step()).splitlines()
    assert lines[0] == "euid  A title"
    assert lines[2] == "namespaces, Linux 6.18, bindlab 1.0, seed 7"
    assert " 1  Alice listens" in lines
    folded = [" ".join(line.split()) for line in lines]
    assert "alice/64002 bind(3, 0.0.0.0:80) = 0" in folded
    assert "tcp 0.0.0.0:80 LISTEN alice/64001 alice, child port 2/128 7" in folded
    assert any("real 64001, effective 64002" in line for line in lines)
    assert any("expected OK, observed OK" in line for line in lines)
    assert "    Because it is free." in lines
    assert lines[-1] == "1 step: 1 as expected"


def test_the_header_says_what_booted_an_isolated_kernel() -> None:
    header = show([replace(RUN, machine="uml", seed=None)]).splitlines()[2]
    assert header == "namespaces, Linux 6.18 (uml), bindlab 1.0"


def test_no_line_ends_in_blanks_and_none_is_coloured_without_a_terminal() -> None:
    text = show(one_step())
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in show(one_step(), Terminal())


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in show(one_step(), Terminal())


def test_an_encoding_without_signs_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1", errors="strict", write_through=True)
    view = TerminalView(stream)
    for event in one_step(calls=40):
        view(event)
    assert raw.getvalue().decode("ascii").count("ok expected OK") == 1
    assert b"x 40" in raw.getvalue()


def test_what_differs_is_named_at_the_end() -> None:
    events = one_step(Failed("EPERM", "bind"), Verdict.DIFFERS)
    text = show(events)
    assert "expected OK, observed EPERM from bind()" in text
    assert "1 step: 1 otherwise" in text
    assert "  step 1 otherwise" in text


def test_many_calls_of_a_kind_are_counted_and_a_refused_one_is_never_hidden() -> None:
    events = one_step(calls=30)
    events.insert(-2, CallMade("alice", 64001, "bind(9, 0.0.0.0:80)", "-1 EPERM (No)", "EPERM"))
    text = show(events)
    assert text.count("bind(3, 0.0.0.0:80)") == 1
    assert "x 30" in text
    assert "-1 EPERM (No)" in text


def test_a_call_of_the_container_engine() -> None:
    events = one_step()
    shown = "publish(127.0.0.1:49153, 10.77.0.2:80)"
    events.insert(-2, CallMade(ENGINE, 0, shown, "-1 EADDRINUSE (taken)", "EADDRINUSE"))
    folded = [" ".join(line.split()) for line in show(events, Terminal()).splitlines()]
    assert any(f"engine/0 {shown}" in line and "EADDRINUSE" in line for line in folded)


@pytest.mark.parametrize(
    ("uid", "capabilities", "shown"),
    [
        (64002, 0, ""),
        (64002, 1 << 10, "alice: uid 64002; capabilities CAP_NET_BIND_SERVICE"),
        (0, 1 << 10 | 1, ""),
        (0, 0, "alice: uid 0; capabilities none"),
        (64003, 0, "alice: uid 64002 in its own user namespace, 64003 outside"),
        (64003, 1, "alice: uid 64002 in its own user namespace, 64003 outside"),
    ],
)
def test_what_one_would_not_expect_of_who_calls(uid: int, capabilities: int, shown: str) -> None:
    process = ProcessEvidence("alice", Credentials(uid, uid, uid, uid), capabilities)
    events = one_step(process=process)
    if uid == 0:
        events = [
            replace(event, uid=0) if isinstance(event, CallMade) else event for event in events
        ]
    text = show(events)
    assert shown in text
    assert ("capabilities" in text) == ("capabilities" in shown)


def test_who_was_refused_with_capabilities_shows_them() -> None:
    process = ProcessEvidence("root", Credentials(0, 0, 0, 0), 1 << 7 | 1)
    events = one_step(process=process)
    refused = CallMade("root", 0, "bind(3, 0.0.0.0:80)", "-1 EADDRINUSE (No)", "EADDRINUSE")
    root = ProcessStarted("root", "server", "root", 3, Credentials(0, 0, 0, 0))
    text = show([*events[:2], root, events[2], refused, *events[4:]])
    assert "root: uid 0; capabilities CAP_CHOWN, CAP_SETUID" in text


def test_shares_are_shown() -> None:
    quantity = Quantity("connections", 40, {"alice": 30, "bob": 10})
    text = show(one_step(quantity, Verdict.PASSED))
    assert "observed 40" in text
    assert "alice 30, bob 10" in text


def test_a_plan_shows_what_is_expected_and_no_outcome() -> None:
    events: list[Event] = [
        RUN,
        ProcessStarted("alice", "server", "alice", 2, ALICE),
        StepStarted(1, "One", Refused("EPERM"), "Reason one."),
        CallMade("alice", 64001, "bind(3, 0.0.0.0:80)", "", ""),
        StepStarted(2, "Two", Ok(), "Reason two."),
        RunEnded(0),
    ]
    text = show(events)
    assert "    expected EPERM" in text
    assert "observed" not in text
    assert "bind(3, 0.0.0.0:80)\n" in text
    assert "Reason two." in text


TAKEN = Decision(
    *("bind", "EADDRINUSE", "taken", "The port is taken there.", 8080, "alice", "LISTEN"),
    Missing("both-reuseport", ("same-owner",)),
)


@pytest.mark.parametrize(
    ("decision", "line"),
    [
        (
            TAKEN,
            "      rule: taken, by alice's listener; both-reuseport lacks the same owner",
        ),
        (
            replace(TAKEN, missing=Missing("both-reuseaddr", ("my-reuseaddr", "their-reuseaddr"))),
            "      rule: taken, by alice's listener; both-reuseaddr lacks SO_REUSEADDR on both",
        ),
        (Decision("bind", "", "free", "Nobody is on the port."), "      rule: free"),
        (
            Decision("bind", "", "both-reuseaddr", "Both have it.", 80, "bob", "TIME_WAIT"),
            "      rule: both-reuseaddr, beside the TIME_WAIT of bob's connection",
        ),
        (
            Decision("bind", "EADDRINUSE", "taken", "It is taken.", 80, "", "CONNECTED"),
            "      rule: taken, by a connection that nobody owns",
        ),
        (
            Decision("bind", "", "free", "Nobody is on the port.", agrees=False),
            "      rule: the rules say OK here, by free",
        ),
        (None, ""),
    ],
)
def test_a_step_names_the_rule_that_decides_it(decision: Decision | None, line: str) -> None:
    step = StepStarted(1, "Bob asks", Refused("EADDRINUSE", "bind"), "The owner's uid differs.")
    ended = StepEnded(1, Failed("EADDRINUSE", "bind"), Verdict.PASSED, (), decision)
    lines = show([RUN, step, ended, RunEnded(0)]).splitlines()
    assert [each for each in lines if "rule" in each] == ([line] if line else [])
    if line:
        assert lines[lines.index(line) + 1] == "    The owner's uid differs."


def test_a_rule_that_takes_more_than_a_line_stays_apart_from_the_reason() -> None:
    step = StepStarted(1, "Bob asks", Refused("EADDRINUSE", "bind"), "Another rule.")
    missing = Missing("both-reuseport", ("my-reuseport", "same-owner"))
    decision = replace(TAKEN, missing=missing)
    ended = StepEnded(1, Failed("EADDRINUSE", "bind"), Verdict.PASSED, (), decision)
    lines = show([RUN, step, ended, RunEnded(0)]).splitlines()
    first = next(number for number, line in enumerate(lines) if "rule:" in line)
    assert lines[first + 1] == "      and the same owner"
    assert lines[first + 2] == "    Another rule."


def test_every_lack_and_state_has_its_words_in_each_language() -> None:
    assert set(LACKS) == set(Lack)
    assert set(HOLDERS) == set(State)
    words = {*LACKS.values(), *HOLDERS.values(), *NOBODYS.values(), *BOTH.values()}
    words |= {LEFT, REFUSED, BESIDE, NEAREST, OTHERWISE, " and "}
    chinese = read_translation(Path(terminal.__file__).parent, "zh").texts
    assert words <= chinese.keys()


def test_an_error_and_its_hint_come_last() -> None:
    lines = show([RUN, RunEnded(70, "It broke.", "Mend it.")]).splitlines()
    assert lines[-2:] == ["It broke.", "  Mend it."]


def test_a_servers_connections_are_one_line() -> None:
    rows = [connection(("10.0.0.1", 80), ("10.0.0.2", port)) for port in range(5000, 5040)]
    (listener, connections) = grouped([LISTENER, *rows])
    assert (listener.count, connections.count) == (1, 40)
    assert connections.is_served
    assert connections.local == "10.0.0.1:80"


def test_a_clients_connections_are_one_line() -> None:
    rows = [connection(("10.0.0.2", port), ("10.0.0.1", 80)) for port in range(5000, 5040)]
    (connections,) = grouped(rows)
    assert (connections.local, connections.peer) == ("10.0.0.2:*", "10.0.0.1:80")
    assert not connections.is_served


def test_time_wait_says_how_long() -> None:
    waiting = connection(("10.0.0.1", 80), ("10.0.0.2", 5000), "TIME_WAIT")
    row = replace(waiting.row, timer="TIME_WAIT", expires=59_940)
    shown = show(one_step(socket=replace(waiting, row=row)))
    assert "TIME_WAIT 59.9 s" in shown


def test_wide_characters_take_two_columns() -> None:
    assert aligned([["端口", "x"], ["port", "y"]]) == ["端口  x", "port  y"]


def test_a_claim_and_what_came_of_it() -> None:
    conclusion = Concluded(Finding.CONDITIONAL, "one user made both")
    lines = show([RUN, conclusion, RunEnded(0)]).splitlines()
    assert lines[1] == "claim: A claim"
    assert lines[lines.index("The claim holds if:") + 1].strip() == "one user made both"


def test_without_a_claim_no_line_is_lost_on_it() -> None:
    assert "claim" not in show([replace(RUN, claim=""), RunEnded(0)])


# --- predictions --------------------------------------------------------------------------


def predicted(said: object, outcome: object, verdict: Verdict = Verdict.PASSED) -> str:
    events = one_step(outcome, verdict)
    started = next(index for index, event in enumerate(events) if isinstance(event, StepStarted))
    said_so = Predicted(1, said)  # type: ignore[arg-type]
    return show([*events[: started + 1], said_so, *events[started + 1 :]])


def test_what_was_said_stands_between_outcome_and_reason() -> None:
    lines = [line.strip() for line in predicted(Ok(), Succeeded()).splitlines()]
    outcome = next(number for number, line in enumerate(lines) if "observed OK" in line)
    assert lines[outcome + 1 : outcome + 3] == ["you said: OK, right", "Because it is free."]
    assert lines[-1] == "predictions: 1 of 1 right"


@pytest.mark.parametrize(
    ("said", "outcome", "verdict", "shown", "summary"),
    [
        (
            Refused("EPERM", "bind"),
            Succeeded(),
            Verdict.PASSED,
            "you said: EPERM from bind(), otherwise",
            "predictions: 0 of 1 right, 1 otherwise",
        ),
        (None, Succeeded(), Verdict.PASSED, "you did not say", "0 of 1 right, 1 not said"),
        (
            Ok(),
            Skipped("too old"),
            Verdict.SKIPPED,
            "you said: OK, not shown on this kernel",
            "predictions: 0 of 0 right, 1 not shown on this kernel",
        ),
    ],
)
def test_what_was_not_right(
    said: object, outcome: object, verdict: Verdict, shown: str, summary: str
) -> None:
    text = predicted(said, outcome, verdict)
    assert f"  {shown}\n" in text
    assert summary in text
    is_left_out = verdict is Verdict.SKIPPED
    assert ("look again at this lab (labs/euid/brief.en.md):" in text) is not is_left_out
    assert ("    step 1: Alice listens\n" in text) is not is_left_out


def test_a_range_is_shown_as_one() -> None:
    step = StepStarted(1, "How many?", Measured("apples", 5, 15), "Why.", see="fork")
    said = [Predicted(1, Measured("apples", low, high)) for low, high in ((2, 40), (7, 7))]
    ended = StepEnded(1, Quantity("apples", 9), Verdict.PASSED, ())
    run = replace(RUN, language="zh")
    for prediction, shown in zip(said, ("2 to 40, too wide to count", "7, right"), strict=True):
        text = show([RUN, step, prediction, ended, RunEnded(0)])
        assert f"      you said: {shown}\n" in text
        assert ("  look at lab fork (labs/fork/brief.en.md):" in text) is ("wide" in shown)
    chinese = show([run, step, said[0], ended, RunEnded(0)])
    assert "2 \u5230 40" in chinese
    assert "labs/fork/brief.zh.md" in chinese


def test_a_run_that_ends_early_counts_what_it_had() -> None:
    step = StepStarted(1, "One", Ok(), "Why.")
    text = show([RUN, step, Predicted(1, Ok()), RunEnded(70, "It died.")])
    assert "predictions" not in text
    assert "It died." in text


def test_without_predictions_nothing_is_said_of_them() -> None:
    assert "predictions" not in show(one_step())
    assert "you " not in show(one_step())


# --- pictures -----------------------------------------------------------------------------


def test_with_pictures_a_step_is_drawn_where_its_tables_would_be() -> None:
    stream = Terminal()
    view = PictureView(stream)
    server = HostOpened("server", "10.77.0.2", "fd00::2", "")
    ended = StepEnded(1, Succeeded(), Verdict.PASSED, (Evidence("server", (LISTENER,), ()),))
    bind = CallMade("alice", 64001, "bind(3, 0.0.0.0:80)", "-1 EADDRINUSE (No)", "EADDRINUSE")
    started = ProcessStarted("alice", "server", "alice", 2, ALICE)
    step = StepStarted(1, "A step", Ok(), "Because.")
    for event in (RUN, server, started, step, bind, ended, RunEnded(0)):
        view(event)
    text = stream.getvalue()
    assert "server  10.77.0.2" in text
    assert "sock_diag" not in text
    assert "✘───" in text
