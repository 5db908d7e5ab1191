"""Predictions: which answers a lab offers, how they are read and judged, and who is told when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import find_labs
from labs.engine.layout import Layout
from labs.engine.model import (
    Broken,
    Event,
    Expectation,
    Failed,
    Measured,
    Outcome,
    Predicted,
    Quantity,
    Refused,
    RunEnded,
    Skipped,
    StepEnded,
    StepStarted,
    Succeeded,
)
from labs.engine.prediction import (
    FEWEST,
    Judgement,
    Prediction,
    choices,
    find_choices,
    judge,
    read_quantity,
)
from labs.engine.predictor import Predictor
from labs.engine.record import Record, document
from labs.engine.rehearsal import rehearse_steps
from labs.engine.runner import run_lab
from labs.engine.script import EADDRINUSE, EPERM, OK, Run, between, lab
from labs.engine.views.question import filled, meaning_of, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.script import Lab

LABS = {lab.name: lab for lab in find_labs()}
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "record.schema.json").read_text())
BIND, LISTEN = EADDRINUSE.by("bind"), EADDRINUSE.by("listen")
ACCESS, REFUSED = Refused("EACCES", "bind"), Refused("ECONNREFUSED", "connect")
OFFERED: list[Expectation] = [OK, BIND, LISTEN, REFUSED]
SOME = Measured("apples", 5, 15)
TEN = Measured("apples", 10, 10)


# --- which answers there are --------------------------------------------------------------


def test_few_choices_are_filled_up_with_usual_ones() -> None:
    assert choices([OK, BIND, OK, SOME]) == [OK, BIND, ACCESS, REFUSED]
    assert choices([EPERM.by("fchown")]) == [OK, BIND, ACCESS, EPERM.by("fchown")]


def test_many_choices_are_the_labs_own_in_a_fixed_order() -> None:
    expected: list[Expectation] = [REFUSED, LISTEN, OK, BIND, EPERM.by("fchown")]
    wanted = [OK, BIND, LISTEN, EPERM.by("fchown"), REFUSED]
    assert choices(expected) == choices(reversed(expected)) == wanted


@pytest.mark.parametrize("name", LABS)
def test_a_lab_offers_all_that_it_expects_and_says_what_it_means(name: str) -> None:
    steps = rehearse_steps(LABS[name], None, "en")
    offered = choices(step.expected for step in steps)
    assert [step.number for step in steps] == [*range(1, len(steps) + 1)]
    assert len(offered) >= FEWEST
    for step in steps:
        assert isinstance(step.expected, Measured) or step.expected in offered
    meanings = [meaning_of(choice, lambda text: text) for choice in offered]
    assert all(meanings)
    assert "Success" not in meanings  # strerror(0): what has no meaning of its own


def test_the_plan_is_in_the_language_and_with_the_seed_of_the_run() -> None:
    lab = LABS["timewait"]
    (english, *_), (chinese, *_) = (rehearse_steps(lab, None, name) for name in ("en", "zh"))
    assert "8080" in english.title
    assert "8080" in chinese.title
    assert english.title != chinese.title
    assert "8080" not in rehearse_steps(lab, 7, "en")[0].title


# --- reading an answer --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1", [OK]),
        (" 2 ", [BIND]),
        ("２", [BIND]),
        ("ok", [OK]),
        ("ＯＫ", [OK]),
        ("EADDRINUSE", [BIND, LISTEN]),
        ("eaddrinuse from listen()", [LISTEN]),
        ("EADDRINUSE listen", [LISTEN]),
        ("listen() 返回 EADDRINUSE", [LISTEN]),
        ("econnrefused", [REFUSED]),
        ("EACCES", []),
        ("EADDRINUSE from accept()", []),
        ("0", []),
        ("5", []),
        ("1 2", []),
        ("no", []),
        ("from", []),
        ("?", []),
    ],
)
def test_a_choice_is_read(text: str, found: list[Expectation]) -> None:
    assert find_choices(text, OFFERED) == found


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("8", (8, 8)),
        ("2.5", (2.5, 2.5)),
        ("5-15", (5, 15)),
        ("5 to 15", (5, 15)),
        ("5..15", (5, 15)),
        ("0.1..2.5", (0.1, 2.5)),
        ("5 \N{EN DASH} 15", (5, 15)),
        ("５～１５", (5, 15)),
        ("5 到 15", (5, 15)),
        ("15-5", (5, 15)),
    ],
)
def test_a_quantity_is_read(text: str, bounds: tuple[float, float]) -> None:
    assert read_quantity(text, "apples") == Measured("apples", *bounds)


@pytest.mark.parametrize("text", ["", "many", "5-", "-5", "5 15", "1-2-3", "5 or 6", "nan", "1e9"])
def test_what_is_no_quantity(text: str) -> None:
    assert read_quantity(text, "apples") is None


# --- judging ------------------------------------------------------------------------------


def number(value: float) -> Measured:
    return Measured("apples", value, value)


@pytest.mark.parametrize(
    ("said", "bounds", "outcome", "judgement"),
    [
        (OK, OK, Succeeded(), Judgement.RIGHT),
        (OK, BIND, Succeeded(), Judgement.RIGHT),  # the lab was wrong, the trainee right
        (BIND, BIND, Succeeded(), Judgement.OTHERWISE),
        (OK, OK, Failed("EADDRINUSE", "bind"), Judgement.OTHERWISE),
        (BIND, OK, Failed("EADDRINUSE", "bind"), Judgement.RIGHT),
        (BIND, BIND, Failed("EADDRINUSE", "listen"), Judgement.OTHERWISE),
        (EADDRINUSE, BIND, Failed("EADDRINUSE", "listen"), Judgement.RIGHT),
        (EADDRINUSE, BIND, Failed("EACCES", "bind"), Judgement.OTHERWISE),
        (None, OK, Succeeded(), Judgement.UNSAID),
        (OK, OK, Skipped("too old"), Judgement.NOT_SHOWN),
        (None, OK, Skipped("too old"), Judgement.NOT_SHOWN),
        (OK, OK, Broken("it died"), Judgement.NOT_SHOWN),
        (number(5), SOME, Quantity("apples", 15), Judgement.RIGHT),
        (number(4), SOME, Quantity("apples", 5), Judgement.OTHERWISE),
        (number(16), SOME, Quantity("apples", 15), Judgement.OTHERWISE),
        (number(20), SOME, Quantity("apples", 25), Judgement.RIGHT),  # it differs from the lab
        (number(14), SOME, Quantity("apples", 16), Judgement.OTHERWISE),
        (number(40), SOME, Quantity("apples", 29), Judgement.OTHERWISE),
        (number(10), TEN, Quantity("apples", 10), Judgement.RIGHT),
        (number(11), TEN, Quantity("apples", 10), Judgement.OTHERWISE),
        (number(11), TEN, Quantity("apples", 11), Judgement.RIGHT),
        (Measured("apples", 0, 20), SOME, Quantity("apples", 20), Judgement.RIGHT),
        (Measured("apples", 0, 21), SOME, Quantity("apples", 10), Judgement.TOO_WIDE),
        (Measured("apples", 0, 21), SOME, Quantity("apples", 22), Judgement.OTHERWISE),
        (Measured("apples", 9, 11), TEN, Quantity("apples", 10), Judgement.TOO_WIDE),
        (number(10), SOME, Failed("EPERM", "bind"), Judgement.OTHERWISE),
    ],
)
def test_a_prediction_is_held_against_the_outcome(
    said: Prediction, bounds: Expectation, outcome: Outcome, judgement: Judgement
) -> None:
    assert judge(said, bounds, outcome) is judgement


def test_none_lost_is_not_near_some_lost() -> None:
    """However wide the lab's bounds are: they begin where it matters."""
    lost = Measured("requests lost", 1, 20_000)
    assert judge(number(0), lost, Quantity("requests lost", 3)) is Judgement.OTHERWISE


# --- asking -------------------------------------------------------------------------------


class Told:
    """Answers each question as it was told to; notes what was asked and when."""

    def __init__(self, answers: dict[int, Prediction], events: list[Event]) -> None:
        self.answers = answers
        self.offered: Sequence[Expectation] = ()
        self.asked: list[tuple[list[int], int]] = []  # and how many events there were
        self._events = events

    def begin(self, language: str, offered: Sequence[Expectation]) -> None:
        assert language == "en"
        self.offered = offered

    def ask(self, step: StepStarted) -> Prediction:
        self.asked.append(([step.number], len(self._events)))
        if step.number not in self.answers:
            raise EOFError
        return self.answers[step.number]

    def ask_ahead(self, steps: Sequence[StepStarted]) -> list[Prediction]:
        self.asked.append(([step.number for step in steps], len(self._events)))
        return [self.answers[step.number] for step in steps if step.number in self.answers]


@lab("predictable", title="Steps of which some cannot wait")
def predictable(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    port = run.port(8080)
    with run.step("one", expect=OK, why="1"):
        alice.listen(port)
    with run.step("two", expect=BIND, why="2", see="fork"):
        alice.listen(port)
    with run.step("three", expect=BIND, soon=True, why="3"):
        alice.listen(port)
    with run.step("four", expect=between(1, 3, "apples"), soon=True, why="4") as step:
        alice.listen(run.port(9090))
        step.measured(2)
    with run.step("five", expect=OK, why="5") as step:
        step.skip("no apples")


def predict(answers: dict[int, Prediction]) -> tuple[list[Event], Told]:
    events: list[Event] = []
    told = Told(answers, events)
    predictor = Predictor(
        told, lambda run: rehearse_steps(predictable, run.seed, run.language), events.append
    )
    run_lab(predictable, FakeBackend(), Layout(None), [predictor])
    return events, told


ANSWERS: dict[int, Prediction] = {1: OK, 2: OK, 3: BIND, 4: number(2), 5: None}


def test_each_step_is_asked_once_and_groups_before_they_begin() -> None:
    events, told = predict(ANSWERS)
    assert [steps for steps, _ in told.asked] == [[1], [2, 3, 4], [5]]
    assert told.offered == [OK, BIND, ACCESS, REFUSED]
    for steps, count in told.asked:
        before, after = events[:count], events[count : count + len(steps)]
        assert after == [Predicted(step, ANSWERS[step]) for step in steps]
        started = [event.number for event in before if isinstance(event, StepStarted)]
        over = [event.number for event in before if isinstance(event, StepEnded)]
        assert over == [*range(1, steps[0])]  # nothing of these has run
        assert (steps[0] in started) is (len(steps) == 1)


def test_but_for_what_was_said_the_events_are_those_of_any_run() -> None:
    plain: list[Event] = []
    run_lab(predictable, FakeBackend(), Layout(None), [plain.append])
    events, _ = predict(ANSWERS)
    found = [event for event in events if not isinstance(event, Predicted)]
    assert found[1:] == plain[1:]


@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_when_the_answers_end_nothing_more_is_asked(last: int) -> None:
    events, told = predict({step: said for step, said in ANSWERS.items() if step <= last})
    said = [event.number for event in events if isinstance(event, Predicted)]
    assert said == [*range(1, last + 1)]
    assert len(told.asked) == (1 if last == 0 else 2)
    assert isinstance(events[-1], RunEnded)
    assert events[-1].status == 0


def test_the_record_keeps_what_was_said_apart() -> None:
    events, _ = predict(ANSWERS)
    record = Record()
    for event in events:
        record(event)
    found: Any = json.loads(json.dumps(document([record])))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    (run,) = found["runs"]
    assert [entry["number"] for entry in run["predictions"]] == [1, 2, 3, 4, 5]
    assert run["predictions"][1] == {"number": 2, "prediction": {"kind": "ok"}}
    assert run["predictions"][4] == {"number": 5, "prediction": None}
    assert [step["soon"] for step in run["steps"]] == [False, False, True, True, False]
    assert [step["see"] for step in run["steps"]] == ["", "fork", "", "", ""]
    assert "prediction" not in json.dumps(run["steps"])


def test_the_schema_refuses_more_than_what_was_said() -> None:
    events, _ = predict(ANSWERS)
    record = Record()
    for event in events:
        record(event)
    found: Any = json.loads(json.dumps(document([record])))
    found["runs"][0]["predictions"][0]["verdict"] = "right"
    with pytest.raises(jsonschema.ValidationError, match="verdict"):
        jsonschema.Draft202012Validator(SCHEMA).validate(found)


# --- the labs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LABS)
def test_where_a_step_sends_its_reader_there_is_a_lab(name: str) -> None:
    for step in rehearse_steps(LABS[name], None, "en"):
        assert step.see in ("", *LABS), f"{name} {step.number}"
        assert step.see != name, f"{name} {step.number}: this lab is meant without it"
        assert not (step.soon and step.number == 1), f"{name}: nothing is before its first step"


def test_steps_that_time_would_change_follow_at_once() -> None:
    found = {
        name: [step.number for step in rehearse_steps(lab, None, "en") if step.soon]
        for name, lab in LABS.items()
    }
    marked = {name: numbers for name, numbers in found.items() if numbers}
    assert marked == {"timewait": [2, 3, 4, 9], "restart": [2], "crash": [2], "haproxy": [2]}


UNCOUNTED = {"TIME_WAIT", "of", "that", "as", "answered", "accept()"}


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_no_question_tells_one_from_many(lab: Lab) -> None:
    for step in rehearse_steps(lab, None, "en"):
        if isinstance(step.expected, Measured):
            first = plural(step.expected.what).split()[0]
            assert first.endswith("s") or first in UNCOUNTED, step.expected.what


def test_a_plural() -> None:
    assert plural("connection in the queue") == "connections in the queue"
    assert plural("inode") == "inodes"
    assert plural("inodes") == "inodes"
    assert plural("of 400 that move") == "of 400 that move"


def test_choices_are_not_broken_over_lines() -> None:
    assert filled(["1 OK", "2 EPERM", "3 EACCES"], 16) == ["1 OK   2 EPERM", "3 EACCES"]
    assert filled(["1 OK", "2 EPERM"], 3) == ["1 OK", "2 EPERM"]
    assert filled([], 10) == []
