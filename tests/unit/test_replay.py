"""Records that were kept: their events come back, of older schemas too, and nothing else does."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import find_labs
from labs.engine.errors import ExitStatus, UsageError
from labs.engine.layout import Layout
from labs.engine.model import (
    CallMade,
    Event,
    HostOpened,
    ProcessStarted,
    RunEnded,
    StepEnded,
    StepStarted,
)
from labs.engine.record import SCHEMA, Record, document, event_line
from labs.engine.replay import replay, replay_lines
from labs.engine.reporting import read_lines, write_report
from labs.engine.runner import run_lab
from tests.pages import check_page, find_class, read
from tests.unit.test_html import EVERY_KIND, RUN, write

if TYPE_CHECKING:
    from pathlib import Path

    from labs.engine.agent import Json

LABS = {lab.name: lab for lab in find_labs()}


def record(*runs: list[Event]) -> Any:
    """A document as it comes from a file."""
    records = []
    for events in runs:
        records.append(Record())
        for event in events:
            records[-1](event)
    return json.loads(json.dumps(document(records)))


def lines(events: list[Event], **changes: Json) -> list[str]:
    return [json.dumps(event_line(event) | changes) for event in events]


def events_of(name: str) -> list[Event]:
    events: list[Event] = []
    run_lab(LABS[name], FakeBackend(), Layout(5), [events.append])
    return events


@pytest.mark.parametrize("name", ["euid", "containers", "restart", "udp"])
def test_the_events_of_a_run_come_back(name: str) -> None:
    events = events_of(name)
    assert [*replay_lines(lines(events))] == events
    again = [*replay(record(events))]
    # Calls outside of a step are in no document.
    begun = next(number for number, event in enumerate(events) if isinstance(event, StepStarted))
    rest = [event for event in events[:begun] if not isinstance(event, CallMade)] + events[begun:]
    assert others(again) == others(rest)
    for kind in (HostOpened, ProcessStarted):
        assert of_kind(again, kind) == of_kind(events, kind)


def of_kind(events: list[Event], kind: type) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


def others(events: list[Event]) -> list[Event]:
    """All but hosts and processes, of which a document does not say when they came."""
    return [event for event in events if not isinstance(event, HostOpened | ProcessStarted)]


def test_a_child_comes_with_the_fork_whatever_its_parent_does_then() -> None:
    events = iter(replay(record(events_of("fork"))))
    forks = 0
    for event in events:
        if isinstance(event, CallMade) and event.call == "fork()":
            forks += 1
            began = itertools.takewhile(lambda each: isinstance(each, ProcessStarted), events)
            assert event.process in {
                each.parent for each in began if isinstance(each, ProcessStarted)
            }
    assert forks > 5


@pytest.mark.parametrize("name", LABS)
def test_a_record_makes_the_page_that_its_run_made(name: str) -> None:
    events = events_of(name)
    assert write([*replay(record(events))]) == write(events)


def test_every_kind_of_event_comes_back() -> None:
    assert others([*replay(record(EVERY_KIND, EVERY_KIND))]) == others([*EVERY_KIND, *EVERY_KIND])
    died = [*replay(record(EVERY_KIND[:11]))]  # in the middle
    assert others(died) == others(EVERY_KIND[:11])
    assert of_kind(died, ProcessStarted) == of_kind(EVERY_KIND, ProcessStarted)


# --- older schemas ------------------------------------------------------------------------


def older(content: Any, schema: int) -> Any:
    """A document as that schema had it."""
    content = json.loads(json.dumps(content)) | {"schema": schema}
    for run in content["runs"]:
        for step in run["steps"]:
            make_older(step, schema)
        since = {"predictions": 4, "language": 3, "claim": 2, "conclusion": 2, "machine": 2}
        for name in [name for name, first in since.items() if schema < first]:
            del run[name]
    return content


def make_older(step: Any, schema: int) -> None:
    """Take from a step what that schema did not have."""
    del step["rule"], step["decision"]
    if schema == 5:
        return
    for call in step["calls"]:
        del call["at"]
    if step["outcome"] and step["outcome"]["kind"] == "measured":
        del step["outcome"]["meaning"], step["outcome"]["timeline"]
    if schema < 4:
        del step["soon"], step["see"], step["advice"]
        for socket in (socket for host in step["evidence"] for socket in host["sockets"]):
            del socket["row"]["timer"], socket["row"]["expires"]


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5])
def test_an_older_schema_is_read(schema: int, tmp_path: Path) -> None:
    path, page = tmp_path / "old.json", tmp_path / "page.html"
    path.write_text(json.dumps(older(record(EVERY_KIND), schema)))
    assert write_report(str(path), str(page)) is ExitStatus.PASSED
    words = read(check_page(page.read_text()))
    assert "5 steps: 2 as expected, 1 otherwise" in words
    assert ("claim: A claim" in words) == (schema > 1)


def test_lines_of_an_older_schema_are_read() -> None:
    old = [json.loads(line) for line in lines(EVERY_KIND, schema=4)]
    for line in old:
        line.pop("at", None)
    assert [*replay_lines(map(json.dumps, old))] == EVERY_KIND


def test_of_this_schema_nothing_may_be_missing() -> None:
    content = older(record(EVERY_KIND), 4) | {"schema": SCHEMA}
    with pytest.raises(ValueError, match="missing"):
        [*replay(content)]


# --- what cannot be shown -----------------------------------------------------------------


def refused(content: str, folder: Path, name: str = "record.json") -> str:
    """What is said of a file; its page is not written."""
    path, page = folder / name, folder / "page.html"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        write_report(str(path), str(page))
    assert not page.exists()
    return caught.value.message


def changed(*path: Any, value: Json) -> str:
    """A document with another value there."""
    content = record(EVERY_KIND)
    part = content
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "is no object"),
        ("{}", "schema None is none"),
        ('{"schema": true, "runs": []}', "schema True is none"),
        (json.dumps({"schema": SCHEMA, "runs": []}), "it is empty"),
        (json.dumps({"schema": SCHEMA}), "None is no array"),
        (changed("schema", value=SCHEMA + 1), f"schema {SCHEMA + 1}, which a newer bindlab wrote"),
        (changed("runs", 0, "mood", value="good"), "{'mood'} surplus"),
        (changed("runs", 0, "status", value=99), "99 is not a valid ExitStatus"),
        (changed("runs", 0, "status", value=2), "status 2 is none of a run"),
        (changed("runs", 0, "steps", 0, "verdict", value="fine"), "'fine' is none of passed"),
        (changed("runs", 0, "steps", 0, "calls", 0, "process", value="eve"), "a call of 'eve'"),
        (changed("runs", 0, "steps", 0, "calls", 0, "uid", value="0"), "uid: '0' is no int"),
        (changed("runs", 0, "steps", 0, "advice", value={"number": 2, "name": "", "text": ""}),
         "advice on step 2"),
        (changed("runs", 0, "processes", value=None), "None is no array"),
        (changed("runs", 0, "steps", 2, "outcome", "value", value=float("nan")), "nan is beyond"),
        (changed("runs", 0, "steps", 2, "outcome", "value", value=float("inf")), "inf is beyond"),
        (changed("runs", 0, "steps", 0, "calls", 0, "uid", value=10**400), "is beyond"),
    ],
)  # fmt: skip
def test_a_damaged_document_is_a_clear_word(content: str, reason: str, tmp_path: Path) -> None:
    message = refused(content, tmp_path)
    assert "holds no record that can be shown" in message
    assert reason in message


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (EVERY_KIND[1:], "HostOpened outside of a run"),
        ([*EVERY_KIND, EVERY_KIND[4]], "StepStarted outside of a run"),
        ([*EVERY_KIND[:4], EVERY_KIND[7]], "the end of step 1 without a beginning"),
        ([*EVERY_KIND[:8], EVERY_KIND[7]], "the end of step 1 without a beginning"),
        ([*EVERY_KIND[:8], EVERY_KIND[12]], "advice on step 2"),
        ([EVERY_KIND[0], EVERY_KIND[6]], "a call of 'alice'"),
        ([EVERY_KIND[0], RunEnded(2)], "status 2 is none of a run"),
    ],
    ids=str,
)
def test_lines_that_no_run_has(events: list[Event], reason: str, tmp_path: Path) -> None:
    message = refused("\n".join(lines(events)) + "\n", tmp_path, "record.jsonl")
    assert reason in message


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    content = "\n".join(lines(EVERY_KIND))
    message = refused(content[:-5], tmp_path, "record.jsonl")
    assert f"line {len(EVERY_KIND)}: " in message
    newer = lines(EVERY_KIND[:1], schema=SCHEMA + 1)[0]
    assert f"line 1: it is of schema {SCHEMA + 1}" in refused(newer, tmp_path, "a.jsonl")
    assert "line 1: " in refused("", tmp_path, "b.jsonl")


def test_who_wrote_an_older_one_is_said(tmp_path: Path) -> None:
    content = older(record(EVERY_KIND), 3)
    content["runs"][0]["mood"] = "good"
    message = refused(json.dumps(content), tmp_path)
    assert "it is of schema 3, as bindlab 0.1.0 wrote it: {'mood'} surplus" in message


def test_a_separator_of_lines_may_stand_in_a_text() -> None:
    run = replace(RUN, title="one\u2028two\x85three")
    text = json.dumps(event_line(run), ensure_ascii=False)
    assert [*read_lines(f"{text}\n")] == [run]


# --- the command --------------------------------------------------------------------------


def test_several_files_are_one_page(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(record(EVERY_KIND)))
    (tmp_path / "b.jsonl").write_text("\n".join(lines(events_of("udp"))) + "\n")
    page = tmp_path / "page.html"
    names = f"{tmp_path}/a.json, {tmp_path}/b.jsonl"
    assert write_report(names, str(page)) is ExitStatus.PASSED
    found = check_page(page.read_text())
    assert [part.get("id") for part in find_class(found, "run")] == ["euid", "udp"]


def test_what_the_command_needs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--html"):
        write_report("x", None)
    with pytest.raises(UsageError, match="No such file"):
        write_report(str(tmp_path / "none"), "x")
    with pytest.raises(UsageError, match="Is a directory"):
        write_report(str(tmp_path), "x")


def test_every_end_of_a_step_has_its_verdict_back() -> None:
    events = events_of("fork")
    before = [event for event in events if isinstance(event, StepEnded)]
    assert [event for event in replay(record(events)) if isinstance(event, StepEnded)] == before
