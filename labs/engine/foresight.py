"""What the rules say of a lab's steps before any of them is done: for `expect=FROM_RULES`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from labs.engine.backends.fake import FakeBackend
from labs.engine.errors import LabError
from labs.engine.following.follower import follow
from labs.engine.layout import Layout
from labs.engine.model import Ok, Refused, StepEnded
from labs.engine.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from labs.engine.model import Event, Expectation


def foresee(
    play: Callable[[Session], None], seed: int | None, kernel: str
) -> Mapping[int, Expectation]:
    """What the rules of a kernel answer in each step that ends in bind() or listen().

    By its number. The script is played on the fake, as far as that can follow it: what there is
    comes of the calls that it makes, and what they are answered is the model's word.
    """
    found: dict[int, Expectation] = {}

    def note(event: Event) -> None:
        if isinstance(event, StepEnded) and (decision := event.decision):
            errno = decision.errno
            found[event.number] = Refused(errno, decision.call) if errno else Ok()

    backend = FakeBackend()
    backend.kernel = kernel
    # What is wrong with the lab, the run itself will say.
    with contextlib.suppress(Exception):
        play(Session(backend, Layout(seed), note, follow(kernel)))
    return found


def expected_of(foreseen: Mapping[int, Expectation], number: int) -> Expectation:
    """What the rules answer in a step; LabError where they say nothing of it."""
    if number not in foreseen:
        raise LabError(
            f"The rules do not say what comes of step {number}: FROM_RULES is for steps that end "
            "in bind() or listen(), where all sockets are made by calls of the lab's."
        )
    return foreseen[number]
