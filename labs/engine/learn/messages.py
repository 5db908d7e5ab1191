"""What the course and the process that runs a lab for it say to each other: lines of JSON.

The process writes events, as `record.event_line` has them, and between them what it asks and how it
ends; the course writes an answer to each question. A step that is asked for stands in its whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from labs.engine.model import Event, Expectation, StepStarted
from labs.engine.reading import elements, instance_reader, members, read_event, reader
from labs.engine.record import event_line, plain, to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.agent import Json
    from labs.engine.prediction import Prediction


@dataclass(frozen=True)
class NextAsked:
    """The next step waits for a word."""


@dataclass(frozen=True)
class PredictionsAsked:
    """What will come of these steps? `offered` are the answers, where it is no quantity."""

    steps: tuple[StepStarted, ...]
    offered: tuple[Expectation, ...]


@dataclass(frozen=True)
class Ended:
    """All is over, with this exit status; `message` and `hint` say what stopped it, if anything."""

    status: int
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Untouched:
    """The program of an exercise is still the one that was given."""


Message: TypeAlias = Event | NextAsked | PredictionsAsked | Ended | Untouched

SAID: dict[str, type] = {
    "next": NextAsked,
    "predictions": PredictionsAsked,
    "ended": Ended,
    "untouched": Untouched,
}
NAMES = {kind: name for name, kind in SAID.items()}


def message_line(message: Message) -> dict[str, Json]:
    """A message as a line."""
    if type(message) in NAMES:
        return {"say": NAMES[type(message)], **plain(message)}
    assert not isinstance(message, NextAsked | PredictionsAsked | Ended | Untouched)
    return event_line(message)


def read_message(line: Json) -> Message:
    """The message of a line; ValueError for what is none."""
    fields = dict(members(line))
    if "say" not in fields:
        return read_event(line)
    name = fields.pop("say")
    if not isinstance(name, str) or name not in SAID:
        raise ValueError(f"{name!r} is nothing that is said")
    message: Message = instance_reader(SAID[name])(fields)
    return message


def predictions_line(said: Sequence[Prediction]) -> list[Json]:
    """What was said of steps, as an answer; fewer than were asked for end the questions."""
    return [to_json(prediction) for prediction in said]


def read_predictions(line: Json) -> list[Prediction]:
    """What an answer says; ValueError where it is none."""
    read = reader(Expectation)
    return [None if value is None else read(value) for value in elements(line)]
