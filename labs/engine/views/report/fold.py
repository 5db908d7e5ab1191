"""Folds the events of runs into what a report shows of them, and keeps nothing else.

A run may have tens of thousands of sockets: each event is digested as it comes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.capabilities import capability_names
from labs.engine.errors import ExitStatus
from labs.engine.model import (
    PLAN,
    Advised,
    CallMade,
    Concluded,
    Event,
    Predicted,
    ProcessEvidence,
    ProcessStarted,
    Quantity,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Verdict,
)
from labs.engine.pictures.album import Album
from labs.engine.pictures.drawing import USERS
from labs.engine.pictures.layout import draw
from labs.engine.pictures.svg import to_svg
from labs.engine.pictures.words import describe
from labs.engine.translation import ENGLISH, LANGUAGES, Translation, read_translation
from labs.engine.views.digest import acting_uids, condensed, grouped, socket_cells
from labs.engine.views.phrases import (
    SIGNS,
    SUMMARY,
    show_counts,
    show_expected,
    show_outcome,
)
from labs.engine.views.reasons import show_decision
from labs.engine.views.report.content import (
    ENDLESS,
    MARKS,
    PLANNED,
    CallLine,
    Capped,
    Mark,
    ProcessRow,
    RuleContent,
    RunContent,
    SocketRow,
    SocketTable,
    StepContent,
    capped,
)
from labs.engine.views.score import Score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from labs.engine.decision import Decision
    from labs.engine.model import Evidence
    from labs.engine.translation import Say

WORDS = Path(__file__).parents[1]  # where the translation of what views say is

# How much of a long list is shown.
MOST_CALLS = 40
MOST_PARTS = 24
MOST_HOSTS = 12
MOST_SOCKETS = 24  # rows of one host
MOST_PROCESSES = 24  # rows

FEWEST_BITS = 38  # capabilities of the oldest kernel that labs run on, Linux 5.6
PICTURE_WIDTH = 72  # cells
# What a prediction was, by the style that the score gives it.
JUDGED = {"green": "right", "dim": "unsaid"}


class Anchors:
    """Names for places of a page, each once."""

    def __init__(self) -> None:
        self._taken = {"contents"}

    def take(self, wanted: str) -> str:
        """A name like this one that nothing else has."""
        count = 1
        while (found := wanted if count == 1 else f"{wanted}.{count}") in self._taken:
            count += 1
        self._taken.add(found)
        return found


class Fold:
    """Takes the events of runs, one run after the other; `runs` is what they came to."""

    def __init__(self, anchors: Anchors) -> None:
        self._anchors = anchors
        self._runs: list[RunContent] = []
        self._run: RunContent | None = None
        self._steps: list[StepContent] = []
        self._verdicts: list[Verdict] = []
        self._step: StepStarted | None = None
        self._calls: list[CallMade] = []
        self._users: dict[str, str] = {}
        self._colours: dict[str, int] = {}
        self._album = Album()
        self._score = Score()
        self._say: Say = Translation().text

    @property
    def runs(self) -> Sequence[RunContent]:
        """All runs so far; one that has not ended did not come to its end."""
        self._close_run(ENDLESS)
        return self._runs

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        self._album(event)
        match event:
            case RunStarted():
                self._start_run(event)
            case ProcessStarted():
                self._users[event.process] = event.user
                self._colours[event.user] = self._album.user(event.process) % USERS
            case StepStarted():
                self._leave_step()
                self._step, self._calls = event, []
                self._score.take(event)
            case Predicted():
                self._score.take(event)
            case CallMade():
                self._calls.append(event)
            case StepEnded():
                self._end_step(event)
            case Advised():
                self._steps[-1] = replace(self._steps[-1], advice=event.text)
            case Concluded():
                finding = self._say(f"The claim {event.finding}:")
                self._run = replace(self._opened(), finding=finding, fact=event.fact)
            case RunEnded():
                self._end_run(event)

    # --- a run ---

    def _start_run(self, event: RunStarted) -> None:
        self._close_run(ENDLESS)
        language = event.language if event.language in LANGUAGES else ENGLISH
        self._say = read_translation(WORDS, language).text
        self._steps, self._verdicts = [], []
        self._users, self._colours = {}, {}
        self._step = None
        self._score.begin(event, self._say)
        machine = f" ({event.machine})" if event.machine else ""
        where = [event.backend, f"Linux {event.kernel}{machine}", f"bindlab {event.version}"]
        if event.backend == PLAN:
            where[:2] = [self._say("plan, nothing is started")]
        if event.seed is not None:
            where.append(self._say("seed {seed}", {"seed": event.seed}))
        self._run = RunContent(
            self._anchors.take(re.sub(r"[^A-Za-z0-9_-]+", "-", event.lab) or "-"),
            event.lab,
            event.title,
            event.claim,
            language,
            tuple(where),
            event.started,
            self._translated(PLANNED) if event.backend == PLAN else Mark(),
        )

    def _end_run(self, event: RunEnded) -> None:
        run = self._opened()
        self._run = replace(run, error=event.error, hint=tuple(event.hint.splitlines()))
        self._close_run(MARKS.get(ExitStatus(event.status), ENDLESS))

    def _close_run(self, mark: Mark) -> None:
        """Put what has come together into the list of runs; a plan keeps its own mark."""
        if self._run is None:
            return
        self._leave_step()
        run, self._run = self._run, None
        self._runs.append(
            replace(
                run,
                mark=run.mark if run.mark.name else self._translated(mark),
                verdicts=tuple(self._verdicts),
                steps=tuple(self._steps),
                counts=show_counts(self._verdicts, self._say),
                score=tuple(line.strip() for line, _ in self._score.summary()),
            )
        )

    def _opened(self) -> RunContent:
        assert self._run is not None
        return self._run

    def _translated(self, mark: Mark) -> Mark:
        return replace(mark, words=self._say(mark.words))

    # --- a step ---

    def _end_step(self, event: StepEnded) -> None:
        assert self._step is not None
        step, self._step = self._step, None
        self._score.take(event)
        said = self._score.line(event.number)
        outcome = event.outcome
        parts = outcome.parts if isinstance(outcome, Quantity) else {}
        sign, _, _ = SIGNS[event.verdict]
        mark = Mark(event.verdict.value, sign, self._say(SUMMARY[event.verdict]))
        why = step.why
        if event.verdict is Verdict.DIFFERS:  # the reason is one for what has not come
            why = self._say("Why that was expected: {why}", {"why": why})
        self._verdicts.append(event.verdict)
        self._steps.append(
            replace(
                self._content(step, mark),
                why=why,
                observed=show_outcome(outcome, self._say),
                parts=capped(((name, f"{part:g}") for name, part in parts.items()), MOST_PARTS),
                sockets=capped(self._tables(event.evidence), MOST_HOSTS),
                processes=capped(self._process_rows(event.evidence), MOST_PROCESSES),
                rule=self._rule(event.decision) if event.decision else None,
                prediction=(said[0], JUDGED.get(said[1], "otherwise")) if said else None,
            )
        )
        self._calls = []

    def _rule(self, decision: Decision) -> RuleContent:
        reason = show_decision(decision, self._say)
        return RuleContent(reason, decision.sentence, decision.agrees)

    def _leave_step(self) -> None:
        """A step that does not end: in a plan none does, elsewhere something has died."""
        if self._step is None:
            return
        step, self._step = self._step, None
        mark = Mark() if self._opened().mark.name else self._translated(ENDLESS)
        self._steps.append(self._content(step, mark))

    def _content(self, step: StepStarted, mark: Mark) -> StepContent:
        """What is known of a step before its end, and the calls that were made in it."""
        return StepContent(
            self._anchors.take(f"{self._opened().anchor}-{step.number}"),
            step.number,
            step.title,
            mark,
            show_expected(step.expected, self._say),
            step.why,
            capped(map(self._line, condensed(self._calls)), MOST_CALLS),
            self._picture(),
        )

    def _picture(self) -> str:
        """The state that the step left, and what it tried; in a plan nothing is left.

        Empty where there is nothing to see.
        """
        picture, language = self._album.picture, self._opened().language
        if self._opened().mark.name or picture.is_empty:
            return ""
        drawing = draw(picture, PICTURE_WIDTH, language)
        return to_svg(drawing, describe(picture, language))

    def _line(self, repeated: tuple[CallMade, int]) -> CallLine:
        call, count = repeated
        return CallLine(
            f"{call.process}/{call.uid}",
            self._colour(self._users.get(call.process, "")),
            call.call,
            call.result,
            bool(call.errno),
            count,
        )

    def _colour(self, user: str) -> int | None:
        return self._colours.get(user)

    # --- evidence ---

    def _tables(self, evidence: Iterable[Evidence]) -> Iterable[SocketTable]:
        for host in evidence:
            if host.sockets:
                rows = capped(grouped(host.sockets), MOST_SOCKETS)
                shown = tuple(
                    SocketRow(tuple(socket_cells(group)), self._colour(group.first.user))
                    for group in rows.parts
                )
                yield SocketTable(host.host, Capped(shown, rows.more), len(host.sockets))

    def _process_rows(self, evidence: Iterable[Evidence]) -> Iterable[ProcessRow]:
        """All processes, those that are alike together."""
        acting = acting_uids(self._calls)
        names: dict[tuple[tuple[int, ...], str, int], list[str]] = {}
        for process in (process for host in evidence for process in host.processes):
            inner = inner_uid(process, acting)
            alike = (process.credentials.uids, inner, process.capabilities)
            names.setdefault(alike, []).append(process.name)
        for (uids, inner, capabilities), found in names.items():
            yield ProcessRow(", ".join(found), uids, inner, self._powers(capabilities))

    def _powers(self, mask: int) -> str:
        is_whole = mask == (1 << mask.bit_length()) - 1 and mask.bit_length() >= FEWEST_BITS
        names = ("all",) if is_whole else capability_names(mask) or ("none",)
        return ", ".join(map(self._say, names))


def inner_uid(process: ProcessEvidence, acting: Mapping[str, int]) -> str:
    """The uid that a process has in a user namespace of its own; empty where it has none."""
    inner = acting.get(process.name, process.credentials.effective)
    return "" if inner == process.credentials.effective else str(inner)
