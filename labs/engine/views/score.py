"""The score: what the trainee said of a run's steps, beside what was observed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from labs.engine.model import Measured, Predicted, Refused, RunStarted, StepEnded, StepStarted
from labs.engine.prediction import Judgement, judge
from labs.engine.translation import Translation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.prediction import Prediction
    from labs.engine.translation import Say

STYLES = {Judgement.RIGHT: "green", Judgement.UNSAID: "dim", Judgement.NOT_SHOWN: "dim"}
LEFT_OUT = "magenta"  # the style of all others; red is for what differs from the lab
SAID = {
    Judgement.RIGHT: "you said: {said}, right",
    Judgement.OTHERWISE: "you said: {said}, otherwise",
    Judgement.TOO_WIDE: "you said: {said}, too wide to count",
    Judgement.UNSAID: "you did not say",
    Judgement.NOT_SHOWN: "you said: {said}, not shown on this kernel",
}
COUNTED = {
    Judgement.OTHERWISE: "{count} otherwise",
    Judgement.TOO_WIDE: "{count} too wide to count",
    Judgement.UNSAID: "{count} not said",
    Judgement.NOT_SHOWN: "{count} not shown on this kernel",
}


class Score:
    """Takes a run's events; says of each predicted step how it was, and at the end of all."""

    def __init__(self) -> None:
        self._say: Say = Translation().text
        self._run: RunStarted | None = None
        self._steps: dict[int, StepStarted] = {}
        self._said: dict[int, Prediction] = {}
        self._judgements: dict[int, Judgement] = {}

    def begin(self, run: RunStarted, say: Say) -> None:
        """A run begins; `say` translates."""
        self._run, self._say = run, say
        self._steps, self._said, self._judgements = {}, {}, {}

    def take(self, event: StepStarted | Predicted | StepEnded) -> None:
        """Take the next event that matters."""
        match event:
            case StepStarted():
                self._steps[event.number] = event
            case Predicted():
                self._said[event.number] = event.prediction
            case StepEnded() if event.number in self._said:
                bounds = self._steps[event.number].expected
                said = self._said[event.number]
                self._judgements[event.number] = judge(said, bounds, event.outcome)

    @property
    def right(self) -> int:
        """How many predictions were right so far."""
        return [*self._judgements.values()].count(Judgement.RIGHT)

    @property
    def judged(self) -> int:
        """Of how many."""
        judgements = [*self._judgements.values()]
        return len(judgements) - judgements.count(Judgement.NOT_SHOWN)

    def line(self, number: int) -> tuple[str, str] | None:
        """What was said of a step that is over and how that was, with its style."""
        judgement = self._judgements.get(number)
        if judgement is None:
            return None
        said = self._said[number]
        shown = self._say("nothing") if said is None else show_said(said, self._say)
        return self._say(SAID[judgement], {"said": shown}), STYLES.get(judgement, LEFT_OUT)

    def summary(self) -> Iterator[tuple[str, str]]:
        """How many were right, and where to read on about the others; lines with their styles."""
        if not self._judgements:
            return
        counts = Counter(self._judgements.values())
        values = {"right": self.right, "count": self.judged}
        parts = [self._say("predictions: {right} of {count} right", values)]
        parts += [
            self._say(text, {"count": counts[judgement]})
            for judgement, text in COUNTED.items()
            if counts[judgement]
        ]
        yield ", ".join(parts), "bold"
        for lab, steps in self._reading().items():
            yield self._direct(lab), ""
            for step in steps:
                values = {"number": step.number}
                yield f"    {self._say('step {number}', values)}: {step.title}", ""

    def _reading(self) -> dict[str, list[StepStarted]]:
        """The steps that were not predicted right, by the lab that explains them."""
        assert self._run is not None
        found: dict[str, list[StepStarted]] = {}
        for number, judgement in self._judgements.items():
            if judgement not in (Judgement.RIGHT, Judgement.NOT_SHOWN):
                step = self._steps[number]
                found.setdefault(step.see or self._run.lab, []).append(step)
        return found

    def _direct(self, lab: str) -> str:
        assert self._run is not None
        values = {"lab": lab, "brief": f"labs/{lab}/brief.{self._run.language}.md"}
        here = "  look again at this lab ({brief}):"
        return self._say(here if lab == self._run.lab else "  look at lab {lab} ({brief}):", values)


def show_said(said: Prediction, say: Say) -> str:
    """A prediction in words; of a quantity the number alone."""
    match said:
        case Refused(errno, call) if call:
            return say("{errno} from {call}()", {"errno": errno, "call": call})
        case Measured(_, low, high):
            bounds = {"low": f"{low:g}", "high": f"{high:g}"}
            return say("{low} to {high}", bounds) if low != high else bounds["low"]
    return str(said)
