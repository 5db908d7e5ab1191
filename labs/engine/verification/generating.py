"""Sequences that Hypothesis makes up, and the shortest one in which a judge finds fault.

This module needs Hypothesis, and is imported where sequences are generated alone. Hypothesis makes
up bytes, of which a sequence grows: that takes an eighth of the time of its state machines, which
draw each part of each call for itself, and no sequence comes twice.
"""

from __future__ import annotations

import contextlib
import tempfile
from signal import SIGHUP, SIGINT, SIGTERM, getsignal, signal
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from labs.engine.errors import BindlabError, Interrupted
from labs.engine.verification.sequence import STEPS, Step, grow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from labs.engine.rules.rulebook import Rulebook
    from labs.engine.verification.cell import Cell

    Judge = Callable[[Cell], None]

SIZE = len(Step._fields)
SIGNALS = (SIGINT, SIGTERM, SIGHUP)


class Stopped(BaseException):
    """Ends Hypothesis, which takes any other error for a fault that the judge has found."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


def generate(
    rulebook: Rulebook, count: int, number: int, judge: Judge, *, shrink: bool = False
) -> None:
    """Let a judge hear of so many sequences, the same ones for the same number (the seed).

    Where the judge finds fault and raises an error of its own, it is asked about shorter and
    shorter sequences if they are to `shrink`; the error that it raises to the shortest is raised.
    """

    @seed(number)
    @settings(
        max_examples=count,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        database=None,  # what was found is kept as a file of ours
        deadline=None,  # a kernel takes the time that it takes
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=[*HealthCheck],  # of tests, which this is none
    )
    @given(st.binary(min_size=STEPS * SIZE, max_size=STEPS * SIZE))
    def examine(numbers: bytes) -> None:
        try:
            let_go()
            judge(grow(rulebook, read_steps(numbers)))
            let_go()
        except (BindlabError, Interrupted, KeyboardInterrupt) as error:
            raise Stopped(error) from None

    with tempfile.TemporaryDirectory(prefix="bindlab-") as folder, held_signals() as let_go:
        set_hypothesis_home_dir(folder)
        try:
            examine()
        except Stopped as stopped:
            raise stopped.cause from None


def read_steps(numbers: bytes) -> Iterator[Step]:
    """Steps of so many numbers each."""
    for first in range(0, len(numbers), SIZE):
        yield Step._make(numbers[first : first + SIZE])


@contextlib.contextmanager
def held_signals() -> Iterator[Callable[[], None]]:
    """Hold signals back until the function that it gives is called, or it ends; a second is not.

    What a handler raised within Hypothesis would get lost: it runs code whenever garbage is
    collected, where nothing can be raised, and takes an end while it draws for a fault of its own.
    """
    before = {int(number): getsignal(number) for number in SIGNALS}
    held: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        handler = before[number]
        assert callable(handler)
        handler(number, frame)

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            handle(number, frame)
        held.append(number)

    def let_go() -> None:
        while held:
            handle(held.pop(), None)

    try:
        for number, handler in before.items():
            if callable(handler):
                signal(number, hold)
        yield let_go
    finally:
        for number, handler in before.items():
            if getsignal(number) is hold:
                signal(number, handler)
    let_go()
