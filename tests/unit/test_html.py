"""The HTML view: each kind of event as a page, from events alone."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import find_labs
from labs.engine.decision import Decision
from labs.engine.errors import EngineError, ExitStatus, UsageError
from labs.engine.layout import Layout
from labs.engine.model import (
    PLAN,
    Advised,
    Broken,
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
from labs.engine.runner import Options, check_options, run_lab
from labs.engine.views.html import HtmlView, open_html_view
from labs.engine.views.report.fold import MOST_CALLS, MOST_HOSTS, MOST_PARTS, MOST_SOCKETS
from tests.pages import check_page, classes, find_class, read

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree import ElementTree as ET

    from labs.engine.script import Lab

ALICE = Credentials(64001, 64001, 64001, 64001)
ROOT = Credentials(0, 0, 0, 0)
RUN = RunStarted(
    "euid", "A title", "A claim", "0.1.0", "namespaces", "6.18", "uml", 7, "2026-01-02T03:04:05Z"
)
LISTENER = SocketEvidence(
    SocketRow("tcp", "LISTEN", ("0.0.0.0", 8080), ("0.0.0.0", 0), 64001, 7, 2, 128),
    "alice",
    ("alice", "child"),
    False,
    True,
)
PROCESSES = (
    ProcessEvidence("alice", ALICE, 0),
    ProcessEvidence("child", ALICE, 0),
    ProcessEvidence("root", ROOT, (1 << 41) - 1),
    ProcessEvidence("half", ROOT, 1 << 10),
)
EVIDENCE = Evidence("server", (LISTENER,), PROCESSES)
SHARES = Quantity("connections to alice", 492, {"alice": 492, "child": 508})
FREE = Decision("bind", "", "free", "Nobody is on the port.")
EVERY_KIND: list[Event] = [
    RUN,
    HostOpened("server", "10.0.0.1", "fd00::1", "nsenter --all"),
    ProcessStarted("alice", "server", "alice", 2, ALICE),
    ProcessStarted("root", "server", "root", 3, ROOT),
    StepStarted(1, "Alice listens", Ok(), "The port is free."),
    Predicted(1, Ok()),
    CallMade("alice", 64001, "bind(3, 0.0.0.0:8080)", "0", ""),
    StepEnded(1, Succeeded(), Verdict.PASSED, (EVIDENCE,), FREE),
    StepStarted(2, "Root asks too", Refused("EADDRINUSE", "bind"), "Root is another user."),
    Predicted(2, Ok()),
    CallMade("root", 5, "bind(3, 0.0.0.0:8080)", "-1 EACCES (Permission denied)", "EACCES"),
    StepEnded(2, Failed("EACCES", "bind"), Verdict.DIFFERS, (EVIDENCE,)),
    Advised(2, "roots", "Make it later."),
    StepStarted(3, "Shares", Measured("connections to alice", 380, 620), "A hash spreads them."),
    StepEnded(
        3, Quantity("connections to alice", 492, {"alice": 492, "child": 508}), Verdict.PASSED, ()
    ),
    StepStarted(4, "A program chooses", Ok(), "It may."),
    StepEnded(4, Skipped("no BPF", "4.5"), Verdict.SKIPPED, ()),
    StepStarted(5, "It breaks", Ok(), "It was to work."),
    StepEnded(5, Broken("a worm"), Verdict.FAILED, ()),
    Concluded(Finding.CONDITIONAL, "it was so"),
    RunEnded(3, "It stopped.", "Mend it.\n  like this"),
]


def write(events: list[Event]) -> str:
    view = HtmlView()
    for event in events:
        view(event)
    stream = io.StringIO()
    view.write(stream)
    return stream.getvalue()


def page_of(events: list[Event]) -> ET.Element:
    return check_page(write(events))


def step(page: ET.Element, number: int) -> ET.Element:
    return find_class(page, "step")[number - 1]


def test_every_kind_of_event_is_there() -> None:
    assert {type(event) for event in EVERY_KIND} == set(get_args(Event))


def test_a_page_says_all_that_the_terminal_says() -> None:
    page = page_of(EVERY_KIND)
    words = read(page)
    for expected in (
        "euid A title",
        "namespaces · Linux 6.18 (uml) · bindlab 0.1.0 · seed 7 · 2026-01-02 03:04 UTC",
        "claim: A claim",
        "The claim holds if: it was so",
        "5 steps: 2 as expected, 1 otherwise, 1 skipped, 1 not carried through",
        "predictions: 1 of 2 right, 1 otherwise",
        "It stopped.",
    ):
        assert expected in words
    (first,) = page.iter("h1")
    assert read(first) == "✘ otherwise"


def test_a_step_has_calls_outcome_reason_prediction_and_evidence() -> None:
    page = page_of(EVERY_KIND)
    first, second = step(page, 1), step(page, 2)
    assert first.get("id") == "euid-1"
    assert read(first).startswith("1 Alice listens ")
    assert (
        " alice/64001 bind(3, 0.0.0.0:8080) = 0 expected OK observed OK verdict "
        "✔ as expected The port is free. rule: free Nobody is on the port. "
        "you said: OK, right Evidence · 1 socket on server"
    ) in read(first)
    assert "tcp 0.0.0.0:8080 LISTEN alice/64001 alice, child port 2/128 7" in table(first, 0)
    assert "expected EADDRINUSE from bind() observed EACCES from bind() verdict ✘ otherwise" in (
        read(second)
    )
    assert "Why that was expected: Root is another user." in read(second)
    assert "you said: OK, otherwise" in read(second)
    assert "Hint: Make it later." in read(second)
    assert [read(line) for line in second.iter("li") if "refused" in classes(line)] == [
        "root/5 bind(3, 0.0.0.0:8080) = -1 EACCES (Permission denied)"
    ]


def body(page: ET.Element) -> ET.Element:
    (found,) = page.iter("body")
    return found


def table(part: ET.Element, number: int) -> list[str]:
    """The rows of a table of a step."""
    return [read_cells(row) for row in [*part.iter("table")][number].iter("tr")]


def read_cells(row: ET.Element) -> str:
    return " ".join(map(read, row))


def test_processes_that_are_alike_are_one_row() -> None:
    page = page_of(EVERY_KIND)
    assert table(step(page, 1), 1) == [
        "process uid effective capabilities",
        "alice, child 64001 none",
        "root 0 all",
        "half 0 CAP_NET_BIND_SERVICE",
    ]
    # Who made a call as another uid has a user namespace of its own.
    assert "root 0 5 all" in table(step(page, 2), 1)
    other = ProcessEvidence("other", Credentials(1, 2, 3, 4), 0)
    mixed = StepEnded(1, Succeeded(), Verdict.PASSED, (Evidence("server", (), (other,)),))
    assert table(step(page_of([*EVERY_KIND[:7], mixed]), 1), 0) == [
        "process real effective saved file-system effective capabilities",
        "other 1 2 3 4 none",
    ]


def test_a_step_has_a_picture_with_words_for_who_cannot_see_it() -> None:
    page = page_of(EVERY_KIND)
    (picture,) = find_class(step(page, 1), "picture")
    assert "Port tcp 8080: listener of alice/64001" in picture.get("aria-label", "")
    assert "tcp 8080" in read(picture)
    assert find_class(step(page, 3), "picture") == []  # nothing was tried, nothing was seen
    started = [event for event in EVERY_KIND if isinstance(event, StepStarted)]
    plan = page_of([replace(RUN, backend=PLAN), *EVERY_KIND[1:4], *started, RunEnded(0)])
    assert find_class(plan, "picture") == []


def test_a_quantity_shows_its_parts() -> None:
    third = step(page_of(EVERY_KIND), 3)
    assert "expected 380 to 620 connections to alice observed 492" in read(third)
    assert table(third, 0) == ["alice child", "492 508"]


def test_what_is_no_pass_has_a_sign_and_words_of_its_own() -> None:
    page = page_of(EVERY_KIND)
    assert "skipped no BPF (since 4.5) verdict – skipped" in read(step(page, 4))
    assert "not carried through a worm verdict ! not carried through" in read(step(page, 5))
    signs = [read(sign) for sign in find_class(find_class(page, "steps")[0], "sign")]
    assert signs == ["✔", "✘", "✔", "–", "!"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (ExitStatus.PASSED, "✔ as expected"),
        (ExitStatus.DIFFERS, "✘ otherwise"),
        (ExitStatus.UNSOLVED, "✘ not solved"),
        (ExitStatus.CANNOT_RUN, "– could not run"),
        (ExitStatus.FAILED, "! not carried through"),
    ],
)
def test_the_verdict_is_at_the_top(status: ExitStatus, words: str) -> None:
    page = page_of([*EVERY_KIND[:8], RunEnded(status, "", "")])
    assert read(next(page.iter("h1"))) == words


def test_a_run_in_which_everything_died_says_so() -> None:
    page = page_of(EVERY_KIND[:11])
    assert read(next(page.iter("h1"))) == "! did not come to its end"
    assert "! did not come to its end" in read(step(page, 2))
    assert "root/5 bind(3, 0.0.0.0:8080)" in read(step(page, 2))
    killed = page_of([*EVERY_KIND[:11], RunEnded(70, "The kernel has died.", "Its console")])
    assert "! not carried through The kernel has died. Its console" in read(killed)
    assert "! did not come to its end" in read(step(killed, 2))


def test_a_plan_has_no_verdict() -> None:
    started = [event for event in EVERY_KIND if isinstance(event, StepStarted)]
    page = page_of([replace(RUN, backend=PLAN), *started, RunEnded(0)])
    assert read(next(page.iter("h1"))) == "· a plan"
    assert "plan, nothing is started" in read(page)
    assert read(step(page, 1)) == "1 Alice listens expected OK The port is free."
    assert len(find_class(page, "step")) == 5


def test_several_runs_have_contents() -> None:
    other = replace(RUN, lab="fork", title="Another title", kernel="6.1", machine="")
    page = page_of([*EVERY_KIND[:8], RunEnded(0), other, *EVERY_KIND[1:8], RunEnded(0)])
    (contents,) = find_class(page, "contents")
    assert [read(line) for line in contents.iter("li")] == [
        "euid A title ✔ ✔ as expected",
        "fork Another title ✔ ✔ as expected",
    ]
    assert [link.get("href") for link in contents.iter("a")] == ["#euid", "#fork"]
    assert "2 labs ✔ as expected 2 steps: 2 as expected namespaces · bindlab 0.1.0 · seed 7" in (
        read(page)
    )
    assert find_class(page_of(EVERY_KIND), "contents") == []


def test_the_same_lab_twice_has_two_anchors() -> None:
    page = page_of([*EVERY_KIND[:8], RunEnded(0), *EVERY_KIND[:8], RunEnded(0)])
    assert [part.get("id") for part in find_class(page, "run")] == ["euid", "euid.2"]
    assert [part.get("id") for part in find_class(page, "step")] == ["euid-1", "euid.2-1"]
    assert "2 runs" in read(page)


def test_a_page_speaks_the_language_of_its_run() -> None:
    chinese = [replace(RUN, language="zh"), *EVERY_KIND[1:]]
    page = page_of(chinese)
    assert page.get("lang") == "zh"
    words = read(body(page))
    assert "预期 bind() 返回 EADDRINUSE 实际 bind() 返回 EACCES" in words
    assert "5 步: 2 与预期相符" in words
    for english in ("expected", "observed", "Evidence", "sockets on", "capabilities", "claim:"):
        assert english not in words
    both = page_of([*EVERY_KIND[:8], RunEnded(0), *chinese])
    assert both.get("lang") == "en"
    assert [part.get("lang") for part in find_class(both, "run")] == ["en", "zh"]
    assert page_of([replace(RUN, language="../../engine/zh"), RunEnded(0)]).get("lang") == "en"


# --- names may be anything ----------------------------------------------------------------

HOSTILE = "<script>alert(1)</script>\"'&amp;{{ 7 * 7 }}\x1b[31m\x00\u202e\ud800\x85"
SHOWN = "<script>alert(1)</script>\"'&amp;{{ 7 * 7 }}\ufffd[31m\ufffd\ufffd\ufffd\ufffd"


def test_names_are_text_whatever_they_are() -> None:
    h = HOSTILE
    socket = replace(LISTENER, user=h, holders=(h,), row=replace(LISTENER.row, state=h))
    page = page_of(
        [
            RunStarted(h, h, h, h, h, h, h, 7, h),
            ProcessStarted(h, h, h, 1, ALICE),
            StepStarted(1, h, Measured(h, 1, 2), h),
            Predicted(1, Refused(h, h)),
            CallMade(h, 1, h, h, h),
            StepEnded(1, Quantity(h, 1, {h: 1}), Verdict.DIFFERS, (
                Evidence(h, (socket,), (ProcessEvidence(h, ALICE, 0),)),
            )),
            Advised(1, h, h),
            Concluded(Finding.HOLDS, h),
            RunEnded(70, h, h),
        ]
    )  # fmt: skip
    words = read(page)
    assert words.count(SHOWN) > 20
    assert "49" not in words


# --- long lists ---------------------------------------------------------------------------


def connection(number: int) -> SocketEvidence:
    row = SocketRow(
        "tcp", "TIME_WAIT", ("10.0.0.1", 8080), ("10.0.0.2", number), 0, 0, 0, 0, "TIME_WAIT", 9000
    )
    return SocketEvidence(row, "", (), None, None)


def test_sockets_that_are_alike_are_one_row() -> None:
    sockets = (LISTENER, *map(connection, range(40_000, 42_431)))
    page = page_of([*EVERY_KIND[:7], StepEnded(1, Succeeded(), Verdict.PASSED, (
        Evidence("server", sockets, ()),
    ))])  # fmt: skip
    assert "2,432 sockets on server" in read(step(page, 1))
    assert table(step(page, 1), 0)[2] == ("tcp 10.0.0.1:8080 TIME_WAIT 9.0 s × 2431 - - - 0 -")


def test_long_lists_are_cut_and_say_so() -> None:
    listeners = tuple(
        replace(LISTENER, row=replace(LISTENER.row, inode=n, local=("0.0.0.0", n)))
        for n in range(1, 3000)
    )
    others = (Evidence(f"host-{n}", (LISTENER,), ()) for n in range(100))
    hosts = (Evidence("first", listeners, ()), *others)
    calls = [CallMade(f"p{n}", 1, "bind()", "0", "") for n in range(5000)]
    parts = {f"part-{n}": 1.0 for n in range(2000)}
    text = write([
        RUN,
        StepStarted(1, "Many", Measured("apples", 1, 2), "?"),
        *calls,
        StepEnded(1, Quantity("apples", 1, parts), Verdict.PASSED, hosts),
        RunEnded(0),
    ])  # fmt: skip
    page = check_page(text)
    more = [read(part) for part in find_class(page, "more")]
    assert f"and {5000 - MOST_CALLS:,} more" in more
    assert f"and {2999 - MOST_SOCKETS:,} more" in more
    assert f"and {101 - MOST_HOSTS} more hosts" in more
    assert f"and {2000 - MOST_PARTS:,} more" in read(step(page, 1))
    assert len(text) < 100_000


# --- every lab ----------------------------------------------------------------------------


@pytest.mark.parametrize("lab", find_labs(), ids=lambda lab: lab.name)
def test_the_page_of_every_lab(lab: Lab) -> None:
    events: list[Event] = []
    run_lab(lab, FakeBackend(), Layout(5), [events.append])
    page = page_of(events)
    verdicts = [event.verdict for event in events if isinstance(event, StepEnded)]
    assert verdicts
    found = [classes(part) - {"step"} for part in find_class(page, "step")]
    assert found[: len(verdicts)] == [{str(verdict)} for verdict in verdicts]


# --- its file -----------------------------------------------------------------------------


def test_the_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), open_html_view(str(path)) as view:
        view(RUN)
        raise ZeroDivisionError
    assert path.read_text() == "old"
    with open_html_view(str(path)) as view:
        for event in EVERY_KIND:
            view(event)
        assert path.read_text() == "old"
    check_page(path.read_text())
    assert [*tmp_path.iterdir()] == [path]


def test_standard_output_may_have_few_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with open_html_view("-") as view:
        for event in EVERY_KIND:
            view(event)
    import sys

    sys.stdout.flush()
    assert "✔ as expected" in read(check_page(raw.getvalue().decode("ascii")))


def test_a_reader_that_leaves_in_the_middle_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    end, begin = os.pipe()

    def leave() -> None:
        os.read(end, 10)
        os.close(end)

    thread = threading.Thread(target=leave)
    thread.start()
    with (
        open(begin, "wb", buffering=0) as raw,
        io.TextIOWrapper(raw, encoding="utf-8", write_through=True) as unbuffered,
    ):
        monkeypatch.setattr("sys.stdout", unbuffered)
        runs = [event for _ in range(40) for event in (replace(RUN, title="x" * 9999), RunEnded(0))]
        with pytest.raises(BrokenPipeError), open_html_view("-") as view:
            for event in runs:
                view(event)
    thread.join()


def test_a_name_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError), open_html_view(str(tmp_path / "nowhere" / "x")):
        pass
    with pytest.raises(EngineError), open_html_view("/dev/full") as view:
        for event in EVERY_KIND:
            view(event)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (Options(dry=True, html="x"), "report"),
        (Options(json="-", html="-"), "one document"),
        (Options(junit="-", html="-"), "one document"),
    ],
)
def test_options_that_do_not_go_together(options: Options, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        check_options(options)
    check_options(Options(json="x", junit="y", html="-"))
    assert Options(html="-").takes_output


def rules_in(page: ET.Element) -> list[ET.Element]:
    return [each for each in page.iter() if "rule" in each.get("class", "").split()]


def test_a_step_names_its_rule_and_what_that_says() -> None:
    (named,) = rules_in(page_of(EVERY_KIND))
    assert read(named) == "rule: free Nobody is on the port."
    assert named.get("class") == "rule"


def test_rules_that_say_otherwise_stand_out() -> None:
    ended = StepEnded(1, Succeeded(), Verdict.PASSED, (), replace(FREE, agrees=False))
    (named,) = rules_in(page_of([*EVERY_KIND[:7], ended]))
    assert "the rules say OK here, by free" in read(named)
    assert named.get("class") == "rule wrong"
