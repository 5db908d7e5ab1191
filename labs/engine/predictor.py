"""The predictor: asks before a step runs, and tells the views what was said."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from labs.engine.model import Predicted, RunStarted, StepStarted
from labs.engine.prediction import choices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from labs.engine.model import Event, Expectation
    from labs.engine.prediction import Prediction

    Plan: TypeAlias = Callable[[RunStarted], Sequence[StepStarted]]
    """The steps of a run that has begun, as they will probably be."""


class Asker(Protocol):
    """Who asks the trainee; every question raises EOFError once there will be no more answers."""

    def begin(self, language: str, offered: Sequence[Expectation]) -> None:
        """A lab begins, whose answers are these."""

    def ask(self, step: StepStarted) -> Prediction:
        """What will come of a step whose title is on the screen."""

    def ask_ahead(self, steps: Sequence[StepStarted]) -> list[Prediction]:
        """What will come of steps of which none is on the screen; fewer where the answers end."""


class Predictor:
    """Stands between the events of runs and the views.

    Steps that have to follow each other at once are asked for together, before the first of them.
    """

    def __init__(self, asker: Asker, plan: Plan, emit: Callable[[Event], None]) -> None:
        self._asker = asker
        self._make_plan = plan
        self._emit = emit
        self._plan: Sequence[StepStarted] = ()
        self._has_ended = False

    def __call__(self, event: Event) -> None:
        """Take the next event; returns from a step's start when all is said that comes before."""
        match event:
            case RunStarted() if not self._has_ended:
                self._plan = self._make_plan(event)
                offered = choices(step.expected for step in self._plan)
                self._emit(event)
                self._asker.begin(event.language, offered)
            case StepStarted() if not self._has_ended and not event.soon:
                self._start(event)
            case _:
                self._emit(event)

    def _start(self, step: StepStarted) -> None:
        later = (other for other in self._plan if other.number > step.number)
        steps = [step, *takewhile(lambda other: other.soon, later)]
        if len(steps) > 1:
            self._tell(steps, self._asker.ask_ahead(steps))
            self._emit(step)
            return
        self._emit(step)
        try:
            self._tell(steps, [self._asker.ask(step)])
        except EOFError:
            self._tell(steps, [])

    def _tell(self, steps: Sequence[StepStarted], said: Sequence[Prediction]) -> None:
        self._has_ended = len(said) < len(steps)
        for step, prediction in zip(steps, said, strict=False):
            self._emit(Predicted(step.number, prediction))
