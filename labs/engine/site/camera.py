"""Runs a lab and keeps the picture of one step, with what it is about and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, ExitStatus
from labs.engine.model import Concluded, RunStarted, StepEnded, StepStarted, Verdict
from labs.engine.pictures.album import Album
from labs.engine.site.scenes import SCENES

if TYPE_CHECKING:
    from labs.engine.model import Event
    from labs.engine.pictures.scene import Picture
    from labs.engine.script import Lab


@dataclass(frozen=True)
class Shot:
    """A picture of a lab: of which step it is, and what the run came to."""

    run: RunStarted
    step: StepStarted
    picture: Picture
    conclusion: Concluded | None


class Camera:
    """A view that keeps the picture of the step of this number, once that has gone as expected."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._album = Album()
        self.run: RunStarted | None = None
        self.step: StepStarted | None = None
        self.picture: Picture | None = None
        self.conclusion: Concluded | None = None

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        self._album(event)
        match event:
            case RunStarted():
                self.run = event
            case StepStarted(number=self._number):
                self.step = event
            case StepEnded(number=self._number, verdict=Verdict.PASSED):
                self.picture = self._album.picture
            case Concluded():
                self.conclusion = event


def take(lab: Lab) -> Shot:
    """Run a lab in namespaces, and take its picture; CannotRun where it does not show its claim."""
    from labs.engine.runner import Options, open_place

    camera = Camera(SCENES[lab.name])
    with open_place(Options(), lambda: [camera]) as run:
        status = run(lab)
    is_complete = camera.conclusion is not None or not lab.claim
    if status is not ExitStatus.PASSED or not is_complete or camera.picture is None:
        raise CannotRun(
            f"There is no picture of the lab {lab.name} from here: it does not go its whole way.",
            f"invoke lab.{lab.name} says what is missing.",
        )
    assert camera.run and camera.step
    return Shot(camera.run, camera.step, camera.picture, camera.conclusion)
