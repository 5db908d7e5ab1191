"""The process that runs a lab, or the check of an exercise, for the course that has started it.

It writes messages to what was its standard output, and reads answers from its standard input. It
ends with the course, however that ends (PR_SET_PDEATHSIG), and takes its namespaces along.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from labs.engine.errors import BindlabError, EngineError, ExitStatus, Interrupted
from labs.engine.learn.messages import (
    Ended,
    NextAsked,
    PredictionsAsked,
    Untouched,
    message_line,
    read_predictions,
)
from labs.engine.model import StepStarted
from labs.engine.system import PR_SET_PDEATHSIG, prctl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from labs.engine.agent import Json
    from labs.engine.learn.messages import Message
    from labs.engine.model import Event, Expectation
    from labs.engine.prediction import Prediction
    from labs.engine.runner import Scenario, View

LAB = "lab"
CHECK = "check"


@dataclass(frozen=True)
class Request:
    """What is to be run: the lab or the check of the exercise of this name."""

    what: str
    name: str
    language: str
    seed: int | None = None
    asks: bool = False
    waits: bool = False


class Channel:
    """The way to the course and back."""

    def __init__(self, to_course: TextIO, from_course: TextIO) -> None:
        self._to_course = to_course
        self._from_course = from_course

    def say(self, message: Message) -> None:
        """Write a message."""
        json.dump(message_line(message), self._to_course, ensure_ascii=False)
        self._to_course.write("\n")
        self._to_course.flush()

    def ask(self, message: Message) -> Json:
        """The answer to a message; Interrupted where there will be none."""
        self.say(message)
        line = self._from_course.readline()
        if not line:
            raise Interrupted(ExitStatus.INTERRUPTED)
        answer: Json = json.loads(line)
        return answer


class Asker:
    """Asks the trainee by way of the course; see `predictor.Asker`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._offered: tuple[Expectation, ...] = ()

    def begin(self, _language: str, offered: Sequence[Expectation]) -> None:
        """A lab begins, whose answers are these."""
        self._offered = tuple(offered)

    def ask(self, step: StepStarted) -> Prediction:
        """What will come of a step; EOFError where there will be no more answers."""
        said = self.ask_ahead([step])
        if not said:
            raise EOFError
        return said[0]

    def ask_ahead(self, steps: Sequence[StepStarted]) -> list[Prediction]:
        """What will come of steps; fewer where the answers end."""
        return read_predictions(self._channel.ask(PredictionsAsked(tuple(steps), self._offered)))


class Pace:
    """Waits for a word before each step but the first and those that have to follow at once."""

    def __init__(self, channel: Channel, view: View) -> None:
        self._channel = channel
        self._view = view
        self._is_first = True

    def __call__(self, event: Event) -> None:
        """Pass on the next event."""
        if isinstance(event, StepStarted) and not event.soon:
            if not self._is_first:
                self._channel.ask(NextAsked())
            self._is_first = False
        self._view(event)


def run_request(request: Request, channel: Channel) -> None:
    """Run what was asked for, and say how it has ended."""
    try:
        status = perform(request, channel)
    except BindlabError as error:
        channel.say(Ended(error.status, error.message, error.hint))
    except Exception as error:
        fault = EngineError(f"bindlab itself failed: {type(error).__name__}: {error}")
        channel.say(Ended(fault.status, fault.message))
    else:
        channel.say(Ended(status))


def perform(request: Request, channel: Channel) -> ExitStatus:
    """Run the lab or the check; its status. Raises BindlabError."""
    if request.what == CHECK:
        from labs.engine.exercises.check import attempt, find_exercise
        from labs.engine.exercises.workplace import usage_errors

        with usage_errors():
            exercise = find_exercise(request.name)
            seed = exercise.entry.seed
            status = attempt(exercise, lambda run: run_scenario(run, request, seed, channel))
        if status is None:
            channel.say(Untouched())
            return ExitStatus.UNSOLVED
        return status
    from labs.engine.catalogue import find_lab

    lab = find_lab(request.name, f"labs.{request.name}.lab")
    return run_scenario(lab, request, request.seed, channel)


def run_scenario(
    scenario: Scenario, request: Request, seed: int | None, channel: Channel
) -> ExitStatus:
    """Run what can be run, on the namespaces backend, and tell the course of it."""
    from labs.engine.runner import Options, open_place, predicting

    view: View = channel.say
    if request.asks:
        view = predicting([scenario], Asker(channel), [view])
    if request.waits:
        view = Pace(channel, view)
    options = Options(seed=seed, language=request.language)
    with open_place(options, lambda: [view]) as run:
        return run(scenario)


def end_with(parent: int) -> None:
    """See to it that this process does not outlive the course."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(ExitStatus.INTERRUPTED)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """End in order, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted(ExitStatus.INTERRUPTED)


def take_channel() -> Channel:
    """The streams of this process as the way to the course; what a lab prints goes elsewhere."""
    out = os.dup(1)
    os.dup2(2, 1)
    return Channel(os.fdopen(out, "w", encoding="utf-8", errors="backslashreplace"), sys.stdin)


def main(arguments: Sequence[str]) -> None:
    """Do what the course asks for: its pid and the request are the arguments."""
    parent, request = arguments
    end_with(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's keys are for the course
    signal.signal(signal.SIGTERM, interrupt)
    try:
        run_request(Request(**json.loads(request)), take_channel())
    except BrokenPipeError:
        sys.exit(ExitStatus.INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1:])
