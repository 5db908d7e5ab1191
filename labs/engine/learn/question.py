"""The question before a step: what it will come to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from labs.engine.learn.keys import add_key, remove_key
from labs.engine.model import Measured
from labs.engine.prediction import read_quantity
from labs.engine.views.question import HOW_TO_COUNT, ask_how_many, meaning_of
from labs.engine.views.score import show_said
from labs.engine.views.terminal import aligned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events
    from textual.app import ComposeResult

    from labs.engine.model import Expectation, StepStarted
    from labs.engine.prediction import Prediction
    from labs.engine.translation import Say

OF_A_QUANTITY = re.compile(r"[0-9.~ \-\u2013\u2014\uff0d\uff0e\uff10-\uff19\uff5e到至]")
UNKNOWN = 0  # the number of "I don't know"


class QuantityInput(Input):
    """Takes a number or a range; all other letters are keys of the course."""

    def __init__(self) -> None:
        super().__init__(id="quantity")
        remove_key(self, "ctrl+d")  # it ends the questions

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Whether a key is for the number."""
        return super().check_consume_key(key, character) and self._is_taken(character)

    async def _on_key(self, event: events.Key) -> None:
        if not event.is_printable or self._is_taken(event.character):
            await super()._on_key(event)

    def _is_taken(self, character: str | None) -> bool:
        return bool(character) and bool(OF_A_QUANTITY.fullmatch(character or ""))


class QuestionBox(Vertical):
    """Asks of one step after the other, and tells what was said of all of them."""

    class Answered(Message):
        """All steps that were asked for have their answer; fewer have one where it was enough."""

        def __init__(self, said: list[Prediction]) -> None:
            super().__init__()
            self.said = said

    class Asked(Message):
        """The next question is there."""

    def __init__(self, language: str, say: Say, of_views: Say) -> None:
        super().__init__(id="question")
        self._language = language
        self._say = say
        self._of_views = of_views
        self._steps: list[StepStarted] = []
        self._offered: Sequence[Expectation] = ()
        self._said: list[Prediction] = []
        add_key(self, "ctrl+d", "end", say("No more questions"))

    def compose(self) -> ComposeResult:
        """What is asked, and one of the two ways to answer."""
        yield Static(id="asked", markup=False)
        yield OptionList(id="choices", markup=False)
        yield QuantityInput()

    @property
    def asks_for_number(self) -> bool:
        """Whether a quantity is asked for."""
        return bool(self.query_one(Input).display)

    def ask(self, steps: Sequence[StepStarted], offered: Sequence[Expectation]) -> None:
        """Ask what will come of some steps."""
        self._steps, self._offered, self._said = list(steps), offered, []
        self.display = True
        self._ask_next()

    def focus_answer(self) -> None:
        """Let the keys be for the answer."""
        choices, quantity = self.query_one("#choices", OptionList), self.query_one(Input)
        (quantity if quantity.display else choices).focus()

    def action_end(self) -> None:
        """The trainee wants no more questions."""
        self._tell()

    def on_key(self, event: events.Key) -> None:
        """A digit is an answer."""
        choices = self.query_one("#choices", OptionList)
        if choices.display and event.character and event.character.isdecimal():
            number = int(event.character)
            if number <= len(self._offered):
                event.stop()
                self._take(self._choice(number))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter takes the marked answer."""
        event.stop()
        # "I don't know" stands last, and is number 0.
        number = (event.option_index + 1) % (len(self._offered) + 1)
        self._take(self._choice(number))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter takes the number; nothing is "I don't know"."""
        event.stop()
        expected = self._steps[len(self._said)].expected
        assert isinstance(expected, Measured)
        text = event.value.strip()
        found = read_quantity(text, expected.what) if text else None
        if text and found is None:
            hint = self._of_views("Please say a number such as 8, or a range such as 5-15.")
            self.query_one("#asked", Static).update(hint)
            return
        self._take(found)

    def _ask_next(self) -> None:
        step = self._steps[len(self._said)]
        is_quantity = isinstance(step.expected, Measured)
        self.query_one("#asked", Static).update(self._question(step))
        self.post_message(self.Asked())
        choices, quantity = self.query_one("#choices", OptionList), self.query_one(Input)
        choices.display, quantity.display = not is_quantity, is_quantity
        if is_quantity:
            quantity.value = ""
            self.focus_answer()
            return
        choices.clear_options()
        choices.add_options([Option(line) for line in self._choices()])
        choices.highlighted = 0
        self.focus_answer()

    def _question(self, step: StepStarted) -> str:
        lines = []
        if len(self._steps) > 1:
            # It is not on the screen yet: these steps follow each other without a stop.
            lines.append(f"{step.number:>2}  {step.title}")
        if isinstance(step.expected, Measured):
            lines.append(self._of_views(HOW_TO_COUNT))
            asked = ask_how_many(step.expected.what, self._language, self._of_views)
            lines.append(f"{asked}  {self._say('Enter alone: I do not know.')}")
        else:
            lines.append(self._of_views("What will it come to?"))
        return "\n".join(lines)

    def _choices(self) -> list[str]:
        rows = [
            [str(number), show_said(choice, self._of_views), meaning_of(choice, self._of_views)]
            for number, choice in enumerate(self._offered, 1)
        ]
        return aligned([*rows, [str(UNKNOWN), self._say("I do not know"), ""]])

    def _choice(self, number: int) -> Prediction:
        return None if number == UNKNOWN else self._offered[number - 1]

    def _take(self, said: Prediction) -> None:
        self._said.append(said)
        if len(self._said) < len(self._steps):
            self._ask_next()
        else:
            self._tell()

    def _tell(self) -> None:
        self.display = False
        self.post_message(self.Answered(self._said))
