"""Holds what steps say of rules against the model's, as a run of the lab has shown it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import LabError
from labs.engine.layout import Layout
from labs.engine.model import RunEnded, StepEnded, StepStarted, Verdict
from labs.engine.runner import run_lab

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from labs.engine.model import Event
    from labs.engine.script import Lab


def find_strays(lab: Lab) -> list[str]:
    """What a lab's steps say of rules and is not so on this kernel; raises CannotRun.

    LabError where the lab cannot be run to its end.
    """
    events: list[Event] = []
    with open_namespaces() as backend:
        run_lab(lab, backend, Layout(None), [events.append])
    for event in events:
        if isinstance(event, RunEnded) and event.error:
            raise LabError(event.error)
    return [*compare_rules(events)]


def compare_rules(events: Iterable[Event]) -> Iterator[str]:
    """What steps say of rules, and is otherwise than the model has it; what the model has wrong."""
    step: StepStarted | None = None
    for event in events:
        if isinstance(event, StepStarted):
            step = event
        elif isinstance(event, StepEnded) and step is not None:
            yield from compare_step(step, event)


def compare_step(step: StepStarted, ended: StepEnded) -> Iterator[str]:
    """The same of one step."""
    where = f"step {step.number} ({step.title})"
    decision = ended.decision
    if decision is None:
        if step.rule and ended.verdict is Verdict.PASSED:
            yield f"{where} says rule={step.rule!r}, and the rules do not decide it"
        return
    if not decision.agrees:
        said = decision.errno or "OK"
        yield f"{where}: the rules say {said} by {decision.reason}, the kernel {ended.outcome}"
    elif not step.rule:
        yield f"{where} does not say by which rule it is decided: rule={decision.reason!r}"
    elif step.rule not in (decision.rule, decision.reason):
        yield f"{where} says rule={step.rule!r}, and is decided by {decision.reason!r}"
