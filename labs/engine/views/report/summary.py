"""What several runs come to, for the head of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.translation import ENGLISH, read_translation
from labs.engine.views.phrases import show_counts
from labs.engine.views.report.content import Mark, foremost
from labs.engine.views.report.fold import WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.views.report.content import RunContent


@dataclass(frozen=True)
class Summary:
    """The head of a page: its language, the labs in words, what came of all, and where.

    `where` has what all runs have in common.
    """

    language: str
    subject: str
    mark: Mark
    counts: str
    where: tuple[str, ...]


def sum_up(runs: Sequence[RunContent]) -> Summary:
    """What runs come to, in the language of the first."""
    language = runs[0].language if runs else ENGLISH
    say = read_translation(WORDS, language).text
    labs = {run.lab for run in runs}
    many = say("{count} labs" if len(labs) == len(runs) else "{count} runs", {"count": len(runs)})
    subject = runs[0].lab if len(runs) == 1 else many
    mark = foremost(run.mark for run in runs)
    verdicts = [verdict for run in runs for verdict in run.verdicts]
    where = dict.fromkeys(part for run in runs for part in run.where)
    common = tuple(part for part in where if all(part in run.where for run in runs))
    return Summary(language, subject, mark, show_counts(verdicts, say), common)
