"""The JUnit view: what came of each step, as continuous integration reads it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.errors import EngineError, ExitStatus, UsageError
from labs.engine.layout import Layout
from labs.engine.model import Event, RunEnded, RunStarted, StepStarted
from labs.engine.runner import Options, check_options, run_lab
from labs.engine.script import OK, Run, lab
from labs.engine.views.junit import JunitView, open_junit_view
from tests.unit.trial import show_each_kind

if TYPE_CHECKING:
    from pathlib import Path


@lab("trial", title="A step of each kind")
def trial(run: Run) -> None:
    show_each_kind(run)
    alice = run.host("elsewhere").process("alice-2", user="alice")
    with run.step("differs", expect=OK, why="?"):
        alice.listen(9090)
        alice.listen(9090)
    with run.step("broken", expect=OK, why="?"):
        raise ValueError("broken \x00 <&> \ud800")


@lab("good", title="It does as expected")
def good(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("listen", expect=OK, why="?"):
        alice.listen(8080)


def events_of(which: object, seed: int | None = None) -> list[Event]:
    events: list[Event] = []
    run_lab(which, FakeBackend(), Layout(seed), [events.append])  # type: ignore[arg-type]
    return events


def report(events: list[Event]) -> ET.Element:
    view = JunitView()
    for event in events:
        view(event)
    stream = io.StringIO()
    view.write(stream)
    text = stream.getvalue()
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n<testsuites ')
    return ET.fromstring(text.encode())


def results(suite: ET.Element) -> dict[str | None, list[str]]:
    return {case.get("name"): [part.tag for part in case] for case in suite.iter("testcase")}


def test_each_step_is_a_case_with_what_came_of_it() -> None:
    (suite,) = report(events_of(trial))
    assert results(suite) == {
        "1 ok": [],
        "2 refused": [],
        "3 measured": [],
        "4 skipped": ["skipped"],
        "5 differs": ["failure"],
        "6 broken": ["error"],
        "the run": ["error"],
    }
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "7", "failures": "1", "errors": "2", "skipped": "1"}
    assert {case.get("classname") for case in suite.iter("testcase")} == {"bindlab.trial"}
    assert all(float(case.get("time", "")) >= 0 for case in suite.iter("testcase"))


def test_a_failure_says_what_differs_and_shows_the_evidence() -> None:
    (suite,) = report(events_of(trial))
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "expected OK, observed EADDRINUSE from bind()"
    assert failure.text is not None
    assert "bind(4, 0.0.0.0:9090)  = -1 EADDRINUSE" in failure.text
    assert "elsewhere: tcp 0.0.0.0:9090 to 0.0.0.0:0 LISTEN of uid 64001, held by alice-2" in (
        failure.text
    )


def test_a_skipped_step_and_an_error_say_why() -> None:
    (suite,) = report(events_of(trial))
    (skipped,) = suite.iter("skipped")
    assert skipped.get("message") == "no apples (since 9.9)"
    step, run = (str(error.get("message")) for error in suite.iter("error"))
    assert "broken" in step
    assert "could not go on at" in run
    assert "\N{REPLACEMENT CHARACTER}" in run  # what XML cannot hold
    assert "<&>" in run


def test_it_says_where_it_ran() -> None:
    events = events_of(good, seed=7)
    started = events[0]
    assert isinstance(started, RunStarted)
    events[0] = replace(started, machine="uml", kernel="6.12.9", started="2026-01-02T03:04:05Z")
    (suite,) = report(events)
    found = {part.get("name"): part.get("value") for part in suite.iter("property")}
    assert found.items() >= {
        ("kernel", "6.12.9"),
        ("machine", "uml"),
        ("backend", "fake"),
        ("seed", "7"),
        ("version", started.version),
    }
    assert suite.get("timestamp") == "2026-01-02T03:04:05"


def test_runs_are_suites_beside_each_other() -> None:
    root = report([*events_of(trial), *events_of(good)])
    assert [suite.get("name") for suite in root] == ["trial", "good"]
    assert [suite.get("tests") for suite in root] == ["7", "1"]
    assert root[1].get("errors") == "0"


def test_a_step_in_which_the_run_died_is_an_error() -> None:
    events = events_of(good)
    started = next(index for index, event in enumerate(events) if isinstance(event, StepStarted))
    (suite,) = report([*events[: started + 1], RunEnded(70, "the kernel has died.", "Its console")])
    assert results(suite) == {"1 listen": ["error"], "the run": ["error"]}
    assert suite.get("errors") == "2"
    assert [error.text for error in suite.iter("error")] == [None, "Its console"]


# --- its file -----------------------------------------------------------------------------


def test_the_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), open_junit_view(str(path)) as view:
        for event in events_of(good):
            view(event)
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]
    with open_junit_view(str(path)) as view:
        for event in events_of(good):
            view(event)
        assert path.read_text() == "old"
    assert ET.parse(path).getroot()[0].get("name") == "good"


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with open_junit_view("-") as view:
        for event in events_of(good):
            view(event)
    assert ET.fromstring(capsys.readouterr().out.encode())[0].get("tests") == "1"


def test_a_name_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError), open_junit_view(str(tmp_path / "nowhere" / "x")):
        pass
    with pytest.raises(EngineError) as caught, open_junit_view("/dev/full") as view:
        for event in events_of(good):
            view(event)
    assert caught.value.status is ExitStatus.FAILED


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (Options(dry=True, junit="x"), "report"),
        (Options(dry=True, predict=True), "predict"),
        (Options(dry=True, pause=True), "pause"),
        (Options(json="-", junit="-"), "one document"),
    ],
)
def test_options_that_do_not_go_together(options: Options, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        check_options(options)
    check_options(Options(json="-", junit="x"))
