"""Finds out what a lab will probably do and ask its backend for, by running it on the fake."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from labs.engine.backends.fake import FakeBackend
from labs.engine.layout import Layout
from labs.engine.model import Event, StepStarted
from labs.engine.plans import HostPlan, Needs, OpenedHost, ProcessPlan, StartedProcess
from labs.engine.session import Session
from labs.engine.translation import ENGLISH, read_translation

if TYPE_CHECKING:
    from labs.engine.runner import Scenario


class NotingBackend(FakeBackend):
    """A fake that notes which hosts it was asked to open, and which processes to start."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: list[HostPlan] = []
        self.processes: list[ProcessPlan] = []

    def open_host(self, plan: HostPlan) -> OpenedHost:
        """See `Backend.open_host`."""
        opened = super().open_host(plan)
        self.hosts.append(plan)
        return opened

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        """See `Backend.start_process`."""
        started = super().start_process(plan)
        self.processes.append(plan)
        return started


def rehearse(lab: Scenario, seed: int | None) -> Needs:
    """What the lab asks for as far as the fake can follow it; a kernel may lead it elsewhere."""
    return rehearse_in(lab, Layout(seed))


def rehearse_in(lab: Scenario, layout: Layout) -> Needs:
    """The same in a layout, which then knows the users and ports that the lab has named."""
    backend = NotingBackend()
    perform(lab, Session(backend, layout, lambda _event: None), ENGLISH)
    return Needs(tuple(backend.hosts), tuple(backend.processes))


def rehearse_steps(lab: Scenario, seed: int | None, language: str) -> list[StepStarted]:
    """The lab's steps, in this language, as far as the fake can follow it."""
    steps: list[StepStarted] = []

    def note(event: Event) -> None:
        if isinstance(event, StepStarted):
            steps.append(event)

    perform(lab, Session(FakeBackend(), Layout(seed), note), language)
    return steps


def perform(lab: Scenario, session: Session, language: str) -> None:
    """Let a lab's script run as far as it goes."""
    # What is wrong with the lab, the run itself will say.
    with contextlib.suppress(Exception):
        lab.play(session, read_translation(lab.folder, language))
