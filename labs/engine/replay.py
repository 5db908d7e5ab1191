"""What runs have left, as their events again: from a record's document, or from its lines.

Older schemas are read as far as nothing but fields with a usual value is missing there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from labs.engine.model import (
    ENGINE,
    Advised,
    CallMade,
    Concluded,
    Event,
    HostOpened,
    Predicted,
    ProcessStarted,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
)
from labs.engine.reading import elements, event_reader, members, read_status, reader, show
from labs.engine.record import SCHEMA
from labs.engine.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from labs.engine.agent import Json

# What a run and a step of a document have besides the fields of their own events.
BESIDE_RUN = {"hosts", "processes", "steps", "predictions", "conclusion"}
BESIDE_STEP = {"calls", "advice"}


def replay(document: Json) -> Iterator[Event]:
    """The events of a record's document, the hosts of each run before its first step.

    A document does not say when a process began: it comes where it is first named, or was forked.
    ValueError where it is none, or of a schema that cannot be read.
    """
    fields = members(document)
    is_older = check_schema(fields.get("schema"))
    for run in elements(fields.get("runs")):
        try:
            yield from checked(replay_run(members(run), is_older))
        except ValueError as error:
            raise explained(error, fields.get("schema"), run) from None


def replay_lines(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a record's lines; ValueError with the number of the first that is none."""
    return checked(read_lines(lines))


def check_schema(schema: Json) -> bool:
    """Whether a schema is older than this one; ValueError for a newer one, or for none."""
    if type(schema) is not int or schema < 1:
        raise ValueError(f"schema {show(schema)} is none")
    if schema > SCHEMA:
        raise ValueError(
            f"it is of schema {schema}, which a newer bindlab wrote; "
            f"this one, {VERSION}, reads schemas up to {SCHEMA}"
        )
    return schema < SCHEMA


def explained(error: ValueError, schema: Json, run: Json) -> ValueError:
    """The error for a run that cannot be read: of an older schema, who wrote it."""
    if schema == SCHEMA:
        return error
    version = run.get("version") if isinstance(run, dict) else None
    return ValueError(f"it is of schema {schema}, as bindlab {version} wrote it: {error}")


def replay_run(run: Mapping[str, Json], is_older: bool) -> Iterator[Event]:
    """The events of one run; ValueError where it is none."""
    refuse_others(run, {*names(RunStarted), *names(RunEnded), *BESIDE_RUN})
    yield take(run, RunStarted, is_older)
    yield from map(reader(HostOpened, is_older), elements(run.get("hosts")))
    starts = Starts(map(reader(ProcessStarted, is_older), elements(run.get("processes"))))
    # Older ones asked nobody.
    said = [reader(Predicted)(each) for each in elements(run.get("predictions", []))]
    for step in elements(run.get("steps")):
        for event in replay_step(members(step), said, is_older):
            yield from starts.before(event)
            yield event
            yield from starts.after(event)
    yield from starts.all()
    if run.get("conclusion") is not None:
        yield reader(Concluded)(run["conclusion"])
    if "status" in run:
        yield take(run, RunEnded, is_older)


class Starts:
    """Processes that are yet to begin, in the order in which they do."""

    def __init__(self, processes: Iterable[ProcessStarted]) -> None:
        self._waiting = [*processes]

    def before(self, event: Event) -> Iterator[Event]:
        """Those that have begun by an event that names one of them."""
        match event:
            case CallMade():
                yield from self._take({event.process})
            case StepEnded():
                rows = (row for host in event.evidence for row in host.processes)
                yield from self._take({row.name for row in rows})

    def after(self, event: Event) -> Iterator[Event]:
        """Those that have begun by a fork: the child has what its parent had at that moment."""
        if isinstance(event, CallMade) and event.call == "fork()":
            children = (each for each in self._waiting if each.parent == event.process)
            yield from self._take(
                {each.process for each in children if str(each.pid) == event.result}
            )

    def all(self) -> Iterator[Event]:
        """Those that are left."""
        yield from self._take({each.process for each in self._waiting})

    def _take(self, names: set[str]) -> Iterator[Event]:
        """All up to the last that has one of these names."""
        numbers = [number for number, each in enumerate(self._waiting, 1) if each.process in names]
        count = max(numbers, default=0)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        yield from taken


def replay_step(
    step: Mapping[str, Json], said: Iterable[Predicted], is_older: bool
) -> Iterator[Event]:
    """The events of one step; it has no end where it has no verdict. Raises ValueError."""
    refuse_others(step, {*names(StepStarted), *names(StepEnded), *BESIDE_STEP})
    started = take(step, StepStarted, is_older)
    yield started
    yield from (each for each in said if each.number == step["number"])
    for call in elements(step.get("calls")):
        yield reader(CallMade, is_older)(call)
    if step.get("verdict") is not None:
        yield take(step, StepEnded, is_older)
    if step.get("advice") is not None:
        yield reader(Advised)(step["advice"])


def read_lines(lines: Iterable[str]) -> Iterator[Event]:
    """The event of each line; raises ValueError."""
    for number, line in enumerate(lines, 1):
        try:
            fields = dict(members(json.loads(line)))
            event: Event = event_reader(check_schema(fields.pop("schema", None)))(fields)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        yield event


def checked(events: Iterable[Event]) -> Iterator[Event]:
    """Events in an order in which a run has them; ValueError for any other."""
    order: Order | None = None
    for event in events:
        if isinstance(event, RunStarted):
            order = Order()
        elif order is None:
            raise ValueError(f"{type(event).__name__} outside of a run")
        else:
            order.check(event)
        if isinstance(event, RunEnded):
            order = None
        yield event


class Order:
    """What has happened in a run, and so what may happen next."""

    def __init__(self) -> None:
        self._processes = {ENGINE}
        self._begun = self._ended = 0  # the step of which there was last a beginning, and an end

    def check(self, event: Event) -> None:
        """ValueError for what cannot come next."""
        match event:
            case ProcessStarted():
                self._processes.add(event.process)
            case CallMade(process) if process not in self._processes:
                raise ValueError(f"a call of {show(process)}, which was not started")
            case StepStarted(number):
                self._begun, self._ended = number, 0
            case StepEnded(number):
                if number != self._begun or self._ended:
                    raise ValueError(f"the end of step {number} without a beginning")
                self._ended = number
            case Advised(number) if number != self._ended:
                raise ValueError(f"advice on step {number}, which has not ended")
            case RunEnded(status):
                read_status({"status": status})


def take(fields: Mapping[str, Json], event: type, is_older: bool) -> Event:
    """An event from an object that has more fields; raises ValueError."""
    own = {name: fields[name] for name in names(event) if name in fields}
    found: Event = reader(event, is_older)(own)
    return found


def names(event: type) -> Iterable[str]:
    """The fields of an event."""
    return event.__annotations__


def refuse_others(fields: Mapping[str, Json], known: set[str]) -> None:
    """ValueError for fields that have another name."""
    if others := fields.keys() - known:
        raise ValueError(f"{show(others)} surplus")
