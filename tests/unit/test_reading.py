"""Reading events: what was written comes back, and nothing else is taken."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import find_labs
from labs.engine.decision import Decision, Missing
from labs.engine.layout import Layout
from labs.engine.model import (
    Advised,
    Broken,
    CallMade,
    Concluded,
    Credentials,
    Event,
    Evidence,
    Expectation,
    Failed,
    Finding,
    HostOpened,
    Measured,
    Ok,
    Outcome,
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
from labs.engine.reading import read_event
from labs.engine.record import EVENTS, KINDS, event_line
from labs.engine.runner import run_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.agent import Json
    from labs.engine.script import Lab

UIDS = Credentials(1, 2, 3, 4)
TIME = "2026-01-01T00:00:00Z"
RUN = RunStarted("euid", "A title", "A claim", "1.0", "namespaces", "6.18", "", 7, TIME)
ROW = SocketRow("tcp", "LISTEN", ("0.0.0.0", 80), ("::", 0), 64001, 7, 2, 128)
SOCKET = SocketEvidence(ROW, "alice", ("alice", "child"), True, False)
ORPHAN = SocketEvidence(replace(ROW, inode=0), "", (), None, None)
PROCESS = ProcessEvidence("alice", UIDS, 1 << 40)
EVIDENCE = Evidence("server", (SOCKET, ORPHAN), (PROCESS,))

EXPECTATIONS: list[Expectation] = [
    Ok(),
    Refused("EPERM"),
    Refused("EPERM").by("bind"),
    Measured("apples", 1, 2.5),
]
OUTCOMES: list[Outcome] = [
    Succeeded(),
    Failed("EPERM", "bind"),
    Quantity("apples", 2.5),
    Quantity("apples", 3, {"alice": 1, "bob": 2.0}),
    Skipped("no apples", "9.9"),
    Broken("a worm — \N{WORM}"),
]
VARIANTS: list[Event] = [
    *(replace(RUN, machine=machine) for machine in ("", "uml", "qemu")),
    replace(RUN, seed=None),
    HostOpened("server", "10.0.0.1", "fd00::1", "nsenter --all"),
    ProcessStarted("alice", "server", "alice", 2, UIDS),
    ProcessStarted("child", "server", "alice", 3, UIDS, "alice"),
    *(StepStarted(1, "A step", expected, "Because.") for expected in EXPECTATIONS),
    CallMade("alice", 64001, "bind(3, 0.0.0.0:80)", "-1 EPERM", "EPERM"),
    *(StepEnded(1, outcome, Verdict.PASSED, (EVIDENCE,)) for outcome in OUTCOMES),
    *(StepEnded(1, Succeeded(), verdict, ()) for verdict in Verdict),
    *(Concluded(finding, "It was so.") for finding in Finding),
    Advised(1, "roots", "The socket is root's."),
    RunEnded(0),
    RunEnded(70, "It broke.", "Mend it."),
    StepStarted(1, "A step", Ok(), "Because.", soon=True, see="fork", rule="taken"),
    StepEnded(1, Succeeded(), Verdict.PASSED, (), Decision("bind", "", "free", "Nobody is.")),
    StepEnded(
        1,
        Failed("EADDRINUSE", "bind"),
        Verdict.PASSED,
        (),
        Decision(
            *("listen", "EADDRINUSE", "taken", "It is taken.", 8080, "alice", "LISTEN"),
            *(Missing("both-reuseport", ("same-owner",)), False),
        ),
    ),
    *(Predicted(1, said) for said in (*EXPECTATIONS, None)),
    CallMade("alice", 64001, "listen(3, 128)", "0", "", 1_234_567),
]

# JSON of every type, among it what Python takes to be equal to another type's.
SAMPLES: list[Json] = [None, True, False, 0, 1, -1, 0.0, 1.5, "", "ok", [], {}]
NAMES = ["schema", "event", "kind", "number", "outcome", "host", "call"]


def as_read(event: Event) -> Any:
    return json.loads(json.dumps(event_line(event)))


def test_every_class_is_among_the_variants() -> None:
    assert {type(event) for event in VARIANTS} == set(get_args(Event)) == set(EVENTS)
    kinds = {type(part) for part in (*EXPECTATIONS, *OUTCOMES)}
    assert kinds == {*get_args(Expectation), *get_args(Outcome)} == set(KINDS)


@pytest.mark.parametrize("event", VARIANTS, ids=repr)
def test_what_was_written_comes_back(event: Event) -> None:
    found = read_event(as_read(event))
    assert found == event
    assert repr(found) == repr(event)


@pytest.mark.parametrize("lab", find_labs(), ids=lambda lab: lab.name)
def test_the_events_of_a_run_come_back(lab: Lab) -> None:
    events: list[Event] = []
    run_lab(lab, FakeBackend(), Layout(5), [events.append])
    assert any(isinstance(event, StepEnded) and event.evidence for event in events)
    assert [read_event(as_read(event)) for event in events] == events


# --- what is refused ----------------------------------------------------------------------


def paths(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value inside a value, itself among them."""
    yield path
    match value:
        case dict():
            for name, part in value.items():
                yield from paths(part, (*path, name))
        case list():
            for index, part in enumerate(value):
                yield from paths(part, (*path, index))


def get(line: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        line = line[step]
    return line


def put(line: Any, path: tuple[Any, ...], value: Json) -> Any:
    """The line with another value there."""
    if not path:
        return value
    copy = json.loads(json.dumps(line))
    get(copy, path[:-1])[path[-1]] = value
    return copy


def is_free(path: tuple[Any, ...]) -> bool:
    """Whether this is an object with any names, of which one more is none too many."""
    return path[-1:] == ("parts",)


def taken(value: Json, path: tuple[Any, ...]) -> set[type]:
    """The types that may stand there, where this value does."""
    match path[-1:]:
        case ("seed",):
            return {int, type(None)}
        case ("reuseaddr",) | ("reuseport",):
            return {bool, type(None)}
        case ("prediction",) | ("timeline",) | ("decision",) | ("missing",):
            return {dict, type(None)}
        case ("low",) | ("high",) | ("value",):
            return {int, float}
    return {int, float} if is_free(path[:-1]) else {type(value)}


@pytest.mark.parametrize("event", VARIANTS, ids=repr)
def test_a_missing_field_is_refused(event: Event) -> None:
    line = as_read(event)
    for path in paths(line):
        if path and isinstance(path[-1], str) and not is_free(path[:-1]):
            mutant = json.loads(json.dumps(line))
            del get(mutant, path[:-1])[path[-1]]
            with pytest.raises(ValueError):
                read_event(mutant)


@pytest.mark.parametrize("event", VARIANTS, ids=repr)
def test_a_surplus_field_is_refused(event: Event) -> None:
    line = as_read(event)
    for path in paths(line):
        value = get(line, path)
        if isinstance(value, dict) and not is_free(path):
            with pytest.raises(ValueError):
                read_event(put(line, path, {**value, "mood": "good"}))


@pytest.mark.parametrize("event", VARIANTS, ids=repr)
def test_another_type_is_refused(event: Event) -> None:
    line = as_read(event)
    for path in paths(line):
        types = taken(get(line, path), path)
        for sample in SAMPLES:
            if type(sample) not in types:
                with pytest.raises(ValueError):
                    read_event(put(line, path, sample))


@pytest.mark.parametrize(
    ("event", "path", "value", "reason"),
    [
        (RUN, ("schema",), 1, "schema 1 is not 6"),
        (RUN, ("schema",), True, "schema True is not 6"),
        (RUN, ("event",), "run_paused", "'run_paused' is none of run_started, "),
        (RUN, ("seed",), True, "seed: True is no int or NoneType"),
        (RUN, ("mood",), "good", "{'mood'} missing or surplus in RunStarted"),
        (VARIANTS[7], ("expected", "kind"), "broken", "'broken' is none of ok, refused, measured"),
        (VARIANTS[7], ("expected", "kind"), "measured", "missing or surplus in Measured"),
        (VARIANTS[12], ("outcome", "kind"), "lost", "'lost' is none of ok, "),
        (VARIANTS[12], ("verdict",), "excellent", "'excellent' is none of passed, "),
        (
            VARIANTS[12],
            ("evidence", 0, "sockets", 0, "row", "local"),
            ["::", 80, 0],
            "evidence: sockets: row: local: ['::', 80, 0] is no array of 2",
        ),
    ],
)
def test_the_reason_is_said(event: Event, path: tuple[Any, ...], value: Json, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_event(put(as_read(event), path, value))
    assert reason in str(caught.value)


def test_the_reason_is_short() -> None:
    for path in (("schema",), ("event",), ("kernel",), ("seed",)):
        with pytest.raises(ValueError) as caught:
            read_event(put(as_read(RUN), path, ["x" * 10_000] * 100))
        assert len(str(caught.value)) < 300


def random_json(source: random.Random, depth: int = 4) -> Json:
    size = source.randrange(4) if depth else 0
    match source.randrange(3):
        case 0:
            return [random_json(source, depth - 1) for _ in range(size)]
        case 1:
            names = source.sample(NAMES, size)
            return {name: random_json(source, depth - 1) for name in names}
    return source.choice(SAMPLES)


def test_random_json_is_refused() -> None:
    source = random.Random(1)
    for _ in range(2000):
        with pytest.raises(ValueError):
            read_event(random_json(source))


def test_random_json_within_a_line_is_refused_or_read() -> None:
    source = random.Random(2)
    for event in VARIANTS:
        line = as_read(event)
        for path in paths(line):
            mutant = put(line, path, random_json(source))
            try:
                found = read_event(mutant)
            except ValueError:
                continue
            assert as_read(found) == mutant
