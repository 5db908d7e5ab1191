"""The words and signs in which views say what was expected of a step and what came of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from labs.engine.model import Failed, Measured, Quantity, Refused, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.kernels.comparison import Change, Matrix, SkippedSteps, Stop
    from labs.engine.model import Expectation, Outcome
    from labs.engine.translation import Say

SIGNS = {
    Verdict.PASSED: ("✔", "ok", "green"),
    Verdict.DIFFERS: ("✘", "DIFFERS", "bold red"),
    Verdict.SKIPPED: ("–", "skipped", "yellow"),
    Verdict.FAILED: ("!", "FAILED", "bold red"),
}
SUMMARY = {
    Verdict.PASSED: "as expected",
    Verdict.DIFFERS: "otherwise",
    Verdict.SKIPPED: "skipped",
    Verdict.FAILED: "not carried through",
}
HAPPENED = {
    Verdict.SKIPPED: "expected {expected}, skipped: {outcome}",
    Verdict.FAILED: "expected {expected}, failed: {outcome}",
}
AS_IT_WAS = "expected {expected}, observed {outcome}"
LONGEST_RELEASE = 9  # characters: 6.12.113, without what a distribution adds


def show_expected(expected: Expectation, say: Say) -> str:
    """What a step expects."""
    match expected:
        case Refused(errno, call) if call:
            return show_refusal(errno, call, say)
        case Measured(what, low, high) if low != high:
            values = {"low": f"{low:g}", "high": f"{high:g}", "what": what}
            return say("{low} to {high} {what}", values)
    return str(expected)


def show_outcome(outcome: Outcome, say: Say) -> str:
    """What was observed; of a quantity the number alone, for what it counts stands beside it."""
    match outcome:
        case Quantity():
            return f"{outcome.value:g}"
        case Failed(errno, call):
            return show_refusal(errno, call, say)
    return str(outcome)


def show_refusal(errno: str, call: str, say: Say) -> str:
    """An errno and the call that answered it."""
    return say("{errno} from {call}()", {"errno": errno, "call": call})


def show_counts(verdicts: Sequence[Verdict], say: Say) -> str:
    """How many steps there were and what came of them; empty for none."""
    counts = Counter(verdicts)
    parts = [
        f"{counts[verdict]} {say(word)}" for verdict, word in SUMMARY.items() if counts[verdict]
    ]
    count = len(verdicts)
    steps = say("1 step" if count == 1 else "{count} steps", {"count": count})
    return f"{steps}: {', '.join(parts)}" if parts else ""


# --- kernels and steps, by their names ---------------------------------------------------------


def short_names(kernels: Sequence[str]) -> list[str]:
    """A path's last part where that alone is clear, every other name as it is."""
    lasts = [kernel.rpartition("/")[2] for kernel in kernels]
    return [
        last if lasts.count(last) == 1 else kernel
        for last, kernel in zip(lasts, kernels, strict=True)
    ]


def shorten(release: str) -> str:
    """A release without what a distribution adds to it; a dash for none."""
    short = release.partition("-")[0]
    return short[:LONGEST_RELEASE] or "-"


def name_all(names: Sequence[str], every: Sequence[str], word: str) -> str:
    """Names with commas between, or a word for all of them."""
    if len(names) == len(every) > 1:
        return word
    return ", ".join(names)


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in order, those that follow each other as 11-13."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and groups[-1][1] == number - 1:
            groups[-1][1] = number
        else:
            groups.append([number, number])
    return ", ".join(f"{low}-{high}" if low < high else f"{low}" for low, high in groups)


def name_stop(stop: Stop, matrix: Matrix) -> str:
    """Which labs did not come to their end, and where."""
    labs = name_all(stop.labs, matrix.labs, "every lab")
    return f"{labs} on {name_all(stop.kernels, matrix.kernels, 'all kernels')}"


def name_skipped(skipped: SkippedSteps, matrix: Matrix) -> str:
    """Which steps of a lab are skipped, and where."""
    steps = f"step{'s' * (len(skipped.numbers) > 1)} {ranges(skipped.numbers)}"
    where = name_all(skipped.kernels, matrix.kernels, "all kernels")
    return f"{skipped.lab}, {steps} on {where}"


def name_change(change: Change) -> str:
    """What is another one than before, and where."""
    step = f", step {change.number}  {change.title}" if change.title else ""
    where = f" on {', '.join(change.kernels)}" if change.kernels else ""
    return f"{change.lab}{where}{step}"


def show_change(change: Change) -> str:
    """What it was and is."""
    return f"was {change.before}, is {change.after}"
