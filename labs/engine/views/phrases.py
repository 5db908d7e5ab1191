"""The words and signs in which views say what was expected of a step and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.model import Failed, Measured, Quantity, Refused, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from labs.engine.model import Expectation, Outcome

    Say: TypeAlias = Callable[..., str]
    """Translates a template, and fills in its values."""

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


def printable(text: str) -> str:
    """A text without what a reader's machine would do instead of showing it.

    Names may be any bytes.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )
