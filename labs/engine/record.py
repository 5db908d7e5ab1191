"""The record: a run as data, folded from its events, and its JSON form.

The form is published in docs/record.schema.json; SCHEMA changes when that does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from labs.engine.model import (
    Advised,
    Broken,
    CallMade,
    Concluded,
    Event,
    Failed,
    HostOpened,
    Measured,
    Ok,
    Predicted,
    ProcessStarted,
    Quantity,
    Refused,
    RunEnded,
    RunStarted,
    Skipped,
    StepEnded,
    StepStarted,
    Succeeded,
)

if TYPE_CHECKING:
    from labs.engine.agent import Json

SCHEMA = 6

# Classes that stand where several could, and the name by which JSON tells them apart.
KINDS: dict[type, str] = {
    Ok: "ok",
    Refused: "refused",
    Measured: "measured",
    Succeeded: "ok",
    Failed: "refused",
    Quantity: "measured",
    Skipped: "skipped",
    Broken: "broken",
}
EVENTS: dict[type, str] = {
    RunStarted: "run_started",
    HostOpened: "host_opened",
    ProcessStarted: "process_started",
    StepStarted: "step_started",
    Predicted: "predicted",
    CallMade: "call_made",
    StepEnded: "step_ended",
    Advised: "advised",
    Concluded: "concluded",
    RunEnded: "run_ended",
}


class Record:
    """A run's record, as far as its events have come; give it to a run as a view."""

    def __init__(self) -> None:
        self._run: dict[str, Json] = {}
        self._conclusion: Json = None
        self._hosts: list[Json] = []
        self._processes: list[Json] = []
        self._steps: list[Json] = []
        self._predictions: list[Json] = []
        self._calls: list[Json] = []

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        data = plain(event)
        match event:
            case RunStarted() | RunEnded():
                self._run |= data
            case Concluded():
                self._conclusion = data
            case HostOpened():
                self._hosts.append(data)
            case ProcessStarted():
                self._processes.append(data)
            case StepStarted():
                self._calls = []
                unknown: dict[str, Json] = {
                    "outcome": None,
                    "verdict": None,
                    "evidence": [],
                    "decision": None,
                    "advice": None,
                }
                self._steps.append({**data, "calls": self._calls, **unknown})
            case Predicted():
                self._predictions.append(data)
            case CallMade():
                self._calls.append(data)
            case StepEnded():
                step = self._steps[-1]
                assert isinstance(step, dict)
                step |= data
            case Advised():
                step = self._steps[-1]
                assert isinstance(step, dict)
                step["advice"] = data

    def to_json(self) -> dict[str, Json]:
        """One run of the document."""
        return {
            **self._run,
            "hosts": self._hosts,
            "processes": self._processes,
            "steps": self._steps,
            "predictions": self._predictions,
            "conclusion": self._conclusion,
        }


def document(records: list[Record]) -> dict[str, Json]:
    """The JSON document of some runs."""
    return {"schema": SCHEMA, "runs": [record.to_json() for record in records]}


def event_line(event: Event) -> dict[str, Json]:
    """An event as a line of the JSON Lines form, with its name."""
    return {"schema": SCHEMA, "event": EVENTS[type(event)], **plain(event)}


def plain(instance: object) -> dict[str, Json]:
    """A data class of the model as JSON."""
    assert dataclasses.is_dataclass(instance)
    kind: dict[str, Json] = {"kind": KINDS[type(instance)]} if type(instance) in KINDS else {}
    fields = dataclasses.fields(instance)
    return kind | {field.name: to_json(getattr(instance, field.name)) for field in fields}


def to_json(value: object) -> Json:
    """Any value of the model as JSON."""
    match value:
        case None | bool() | float() | str():
            return value
        case int():
            return int(value)  # an exit status is its number
        case tuple():
            return [to_json(part) for part in value]
        case Mapping():
            return {str(name): to_json(part) for name, part in value.items()}
    return plain(value)
