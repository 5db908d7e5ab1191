"""Finds out what a lab will probably ask its backend for, by running it on the fake backend."""

from __future__ import annotations

import contextlib

from labs.engine.backends.fake import FakeBackend
from labs.engine.layout import Layout
from labs.engine.model import HostPlan, Needs, OpenedHost, ProcessPlan, StartedProcess
from labs.engine.script import Lab, Run
from labs.engine.session import Session


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


def rehearse(lab: Lab, seed: int | None) -> Needs:
    """What the lab asks for as far as the fake can follow it; a kernel may lead it elsewhere."""
    return rehearse_in(lab, Layout(seed))


def rehearse_in(lab: Lab, layout: Layout) -> Needs:
    """The same in a layout, which then knows the users and ports that the lab has named."""
    backend = NotingBackend()
    # What is wrong with the lab, the run itself will say.
    with contextlib.suppress(Exception):
        lab.script(Run(Session(backend, layout, lambda _event: None)))
    return Needs(tuple(backend.hosts), tuple(backend.processes))
