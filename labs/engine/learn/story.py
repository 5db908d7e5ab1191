"""A run as it has been told so far: its steps, the predictions, and where it stands."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from labs.engine.learn.messages import Ended, NextAsked, PredictionsAsked, Untouched
from labs.engine.model import Predicted, RunEnded, RunStarted, StepEnded, StepStarted, Verdict
from labs.engine.views.score import Score

if TYPE_CHECKING:
    from labs.engine.learn.messages import Message
    from labs.engine.model import Event


class Phase(Enum):
    """What a run is about."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    ASKING = "asking"
    OVER = "over"
    STOPPED = "stopped"


class Story:
    """Takes what the process of a run says, and knows how far that is."""

    def __init__(self) -> None:
        self.phase = Phase.IDLE
        self.steps: dict[int, StepStarted] = {}
        self.verdicts: dict[int, Verdict] = {}
        self.asked: tuple[StepStarted, ...] = ()
        self.end: Ended | None = None
        self.is_untouched = False
        self.score = Score()

    @property
    def status(self) -> int | None:
        """The run's exit status; None before its end."""
        return self.end.status if self.end else None

    def take(self, message: Message) -> None:
        """Take the next message."""
        match message:
            case NextAsked():
                self.phase = Phase.WAITING
            case PredictionsAsked(steps):
                self.phase, self.asked = Phase.ASKING, steps
            case Untouched():
                self.is_untouched = True
            case Ended():
                self.phase, self.end = Phase.OVER, message
            case _:
                self._take_event(message)

    def go_on(self) -> None:
        """The trainee has answered."""
        self.phase, self.asked = Phase.RUNNING, ()

    def _take_event(self, event: Event) -> None:
        if isinstance(event, StepStarted | Predicted | StepEnded):
            self.score.take(event)
        match event:
            case RunStarted():
                self.phase = Phase.RUNNING
            case StepStarted():
                self.steps[event.number] = event
            case StepEnded():
                self.verdicts[event.number] = event.verdict
            case RunEnded():
                self.phase = Phase.RUNNING
