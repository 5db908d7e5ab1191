"""A lab's screen: its brief, its steps with a prediction before each, and their picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus, UsageError
from labs.engine.exercises.check import today
from labs.engine.exercises.progress import LabEntry, open_lab_progress
from labs.engine.learn.chapters import read_standing
from labs.engine.learn.child import LAB, Request
from labs.engine.learn.keys import add_key
from labs.engine.learn.pages import OF_A_LAB
from labs.engine.learn.places import OpenExercise
from labs.engine.learn.question import QuestionBox
from labs.engine.learn.run_screen import BUSY, Manner, RunScreen
from labs.engine.learn.story import Phase
from labs.engine.views.exercise import read_page

if TYPE_CHECKING:
    from labs.engine.learn.chapters import Chapter

# A lab has been run to its end with these.
DONE = (ExitStatus.PASSED, ExitStatus.DIFFERS)


class LabScreen(RunScreen):
    """One lab."""

    def __init__(self, chapter: Chapter, manner: Manner, seed: int | None = None) -> None:
        self.chapter = chapter
        self.heading, self.of_run = manner.say("Brief"), manner.say("Steps")
        self.asks = True
        self._seed = seed
        super().__init__(manner)
        self.name_shown = f"{chapter.lab.name}  {chapter.title(manner.language)}"

    def help_text(self) -> str:
        """What the help says of this screen."""
        return self.say(OF_A_LAB)

    def add_keys(self) -> None:
        """Add the keys of a lab."""
        say = self.say
        add_key(self, "r", "run", say("Run"))
        if self.chapter.challenges:
            add_key(self, "e", "exercise", say("Exercise"))
        add_key(self, "p", "predict", say("Ask me or not"))
        super().add_keys()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something now."""
        if action in ("run", "predict"):
            return self.story.phase not in BUSY
        return super().check_action(action, parameters)

    def page(self) -> list[str]:
        """The brief."""
        language = self.manner.language
        return [read_page(self.chapter.brief(language), language)]

    def request(self) -> Request:
        """The lab, with questions unless the trainee wants none."""
        name, language = self.chapter.lab.name, self.manner.language
        return Request(LAB, name, language, self._seed, asks=self.asks, waits=True)

    def action_run(self) -> None:
        """Run the lab."""
        self.run()

    def action_predict(self) -> None:
        """Ask for predictions, or do not."""
        self.asks = not self.asks
        self.refresh_word()

    def action_exercise(self) -> None:
        """Go to the first exercise of the lab that is not solved."""
        challenges = self.chapter.challenges
        try:
            standing = read_standing()
        except UsageError as error:
            self.notify(f"{error.message}\n{error.hint}", severity="warning", markup=False)
            return
        unsolved = [each for each in challenges if not standing.is_solved(each.name)]
        self.post_message(OpenExercise((unsolved or challenges)[0]))

    def word(self) -> str:
        """What may be done now."""
        say, story = self.say, self.story
        match story.phase:
            case Phase.IDLE | Phase.STOPPED:
                if self.asks:
                    return say(
                        "Press r to run the lab, with a question before each step (p: without)."
                    )
                return say("Press r to run the lab, without questions (p: with them).")
            case Phase.STARTING:
                return say("The lab starts ...")
            case Phase.RUNNING:
                return say("The step is at work ...")
            case Phase.WAITING:
                return say("Press n for the next step, a for all that are left, x to stop.")
            case Phase.ASKING:
                if self.query_one(QuestionBox).asks_for_number:
                    return say("Type a number or a range such as 5-15, and press Enter.")
                return say("Press a number, or go to an answer and press Enter.")
        end = story.end
        if end and end.message:
            return "\n".join(part for part in (end.message, end.hint) if part)
        if self.chapter.challenges:
            return say("The lab is over. Press e for its exercise, r to run it again.")
        return say("The lab is over. Press r to run it again, Esc for the list.")

    def has_ended(self) -> None:
        """Keep that the lab was run, and how many predictions were right."""
        story = self.story
        if story.status not in DONE:
            return
        entry = LabEntry(1, today(), story.score.right, story.score.judged)
        try:
            open_lab_progress().change(self.chapter.lab.name, lambda old: combined(old, entry))
        except UsageError as error:
            self.notify(f"{error.message}\n{error.hint}", severity="warning", markup=False)


def combined(old: LabEntry | None, new: LabEntry) -> LabEntry:
    """The entry after one more run: that of the most right predictions is kept."""
    if old is None:
        return new
    best = max(old, new, key=lambda entry: (entry.right, -entry.asked))
    return LabEntry(old.runs + 1, new.day, best.right, best.asked)
