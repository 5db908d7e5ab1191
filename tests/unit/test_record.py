"""The record: its JSON form, the published schema, and the stream of events."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.layout import Layout
from labs.engine.model import ENGINE, CallMade, Concluded, Event, Finding, RunStarted, StepEnded
from labs.engine.record import EVENTS, SCHEMA, Record, document, event_line
from labs.engine.rules.sockets import State
from labs.engine.runner import plan_only, run_lab
from labs.engine.script import OK, Run, lab
from labs.engine.views.json import LinesView
from tests.unit.trial import show_each_kind

DOCS = Path(__file__).parents[2] / "docs"


@lab("trial", title="One step of each kind")
def trial(run: Run) -> None:
    show_each_kind(run)
    with run.step("broken", expect=OK, why="?"):
        raise ValueError("broken")


@pytest.fixture(scope="module")
def events() -> list[Event]:
    events: list[Event] = []
    run_lab(trial, FakeBackend(), Layout(5), [events.append])
    return events


def schema() -> Any:
    return json.loads((DOCS / "record.schema.json").read_text())


def record_of(events: list[Event]) -> Record:
    record = Record()
    for event in events:
        record(event)
    return record


def as_read(records: list[Record]) -> Any:
    return json.loads(json.dumps(document(records)))


def test_the_document_is_as_published(events: list[Event]) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    validator.validate(as_read([record_of(events), record_of(events)]))


def test_the_schema_refuses_what_is_not_published(events: list[Event]) -> None:
    found = as_read([record_of(events)])
    found["runs"][0]["steps"][0]["mood"] = "good"
    with pytest.raises(jsonschema.ValidationError, match="mood"):
        jsonschema.Draft202012Validator(schema()).validate(found)


def test_the_schema_has_the_version_of_the_code() -> None:
    assert schema()["properties"]["schema"]["const"] == SCHEMA
    assert set(schema()["$defs"]["event"]["properties"]["event"]["enum"]) == set(EVENTS.values())


def test_each_kind_of_outcome_is_there(events: list[Event]) -> None:
    (run,) = as_read([record_of(events)])["runs"]
    outcomes = [(step["outcome"]["kind"], step["verdict"]) for step in run["steps"]]
    assert outcomes == [
        ("ok", "passed"),
        ("refused", "passed"),
        ("measured", "passed"),
        ("skipped", "skipped"),
        ("broken", "failed"),
    ]
    assert run["status"] == 70
    assert run["seed"] == 5
    assert [call["errno"] for call in run["steps"][1]["calls"]] == ["", "EADDRINUSE", ""]


def test_a_plan_has_no_outcome(events: list[Event]) -> None:
    record = Record()
    for event in events:
        plan_only(record)(event)
    found = as_read([record])
    jsonschema.Draft202012Validator(schema()).validate(found)
    for step in found["runs"][0]["steps"]:
        assert (step["outcome"], step["verdict"], step["evidence"]) == (None, None, [])
        assert {call["result"] for call in step["calls"]} <= {""}


def test_a_call_of_the_container_engine_is_as_published(events: list[Event]) -> None:
    last = next(index for index, event in enumerate(events) if isinstance(event, StepEnded))
    refused = CallMade(ENGINE, 0, "publish()", "-1 EADDRINUSE (taken)", "EADDRINUSE")
    found = as_read([record_of([*events[:last], refused, *events[last:]])])
    jsonschema.Draft202012Validator(schema()).validate(found)
    assert found["runs"][0]["steps"][0]["calls"][-1]["process"] == "engine"


@pytest.mark.parametrize("name", ["namespaces", "docker"])
def test_each_backend_is_published(name: str, events: list[Event]) -> None:
    started = events[0]
    assert isinstance(started, RunStarted)
    found = as_read([record_of([replace(started, backend=name), *events[1:]])])
    jsonschema.Draft202012Validator(schema()).validate(found)


def test_each_state_of_a_socket_in_the_way_is_published() -> None:
    states = schema()["$defs"]["decision"]["properties"]["state"]["enum"]
    assert states == ["", *State]


@pytest.mark.parametrize("machine", ["uml", "qemu"])
def test_each_machine_is_published(machine: str, events: list[Event]) -> None:
    started = events[0]
    assert isinstance(started, RunStarted)
    found = as_read([record_of([replace(started, machine=machine), *events[1:]])])
    jsonschema.Draft202012Validator(schema()).validate(found)


def test_the_stream_has_every_event_in_order(events: list[Event], tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        view = LinesView(stream)
        for event in events:
            view(event)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [json.loads(json.dumps(event_line(event))) for event in events]
    assert lines[0]["event"] == "run_started"
    assert lines[-1]["event"] == "run_ended"
    for line in lines:
        jsonschema.validate(line, {**schema()["$defs"]["event"], "$defs": schema()["$defs"]})


@lab("concluding", title="It comes to its end", claim="A free port can be had.")
def concluding(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("listen", expect=OK, why="?"):
        alice.listen(8080)
    run.conclude(Finding.HOLDS, "it could")


def test_a_conclusion_is_kept() -> None:
    events: list[Event] = []
    run_lab(concluding, FakeBackend(), Layout(None), [events.append])
    found = as_read([record_of(events)])
    jsonschema.Draft202012Validator(schema()).validate(found)
    (run,) = found["runs"]
    assert run["claim"] == "A free port can be had."
    assert run["conclusion"] == {"finding": "holds", "fact": "it could"}
    assert event_line(events[-2]) == {"schema": SCHEMA, "event": "concluded", **run["conclusion"]}


def test_without_a_conclusion_there_is_none(events: list[Event]) -> None:
    (run,) = as_read([record_of(events)])["runs"]
    assert (run["claim"], run["conclusion"]) == ("", None)


def test_a_plan_concludes_nothing() -> None:
    events: list[Event] = []
    run_lab(concluding, FakeBackend(), Layout(None), [plan_only(events.append)])
    assert not [event for event in events if isinstance(event, Concluded)]
    assert events
