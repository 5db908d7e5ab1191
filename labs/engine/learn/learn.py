"""`invoke learn`: the course on the whole of the terminal, or in a browser."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, ExitStatus, UsageError
from labs.engine.learn.terminal import check_terminal, given_back, has_colour, has_signs
from labs.engine.translation import ENGLISH, check_language

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.learn.app import CourseApp
    from labs.engine.script import Lab

# How often Textual looks whether there is something to draw: with its usual 60 a key has to wait.
PATIENCE = 4.0  # seconds for what is cancelled to be over
SCREENS_A_SECOND = "200"
SWITCH_INTERVAL = 0.0005  # seconds that a thread has Python for itself while another wants it
# Objects more than before until the youngest are looked through; that often until the older ones.
COLLECTIONS = (20_000, 20, 50)


@dataclass(frozen=True)
class LearnOptions:
    """How to learn: `lab` is the one to begin with; `port` the web server's, None for a free one.

    `seed` varies ports, uids and addresses of labs.
    """

    language: str = ENGLISH
    lab: str = ""
    is_web: bool = False
    port: int | None = None
    seed: int | None = None


def run_learn(labs: Sequence[Lab], options: LearnOptions) -> ExitStatus:
    """Show the course until it is left. Raises UsageError, and CannotRun where something lacks."""
    check_language(options.language)
    if options.lab and options.lab not in [lab.name for lab in labs]:
        raise UsageError(f"There is no lab {options.lab}.", "invoke --list  names all.")
    if options.is_web:
        from labs.engine.learn.web import serve

        return serve(options)
    if options.port is not None:
        raise UsageError("--port goes with --web.")
    check_terminal()
    app = make_app(options, has_colour=has_colour())
    with given_back():
        return show(app)


def make_app(options: LearnOptions, *, has_colour: bool) -> CourseApp:
    """The application; CannotRun where Textual is not installed, UsageError as for progress."""
    os.environ.setdefault("TEXTUAL_FPS", SCREENS_A_SECOND)
    if not has_colour:
        os.environ["NO_COLOR"] = "1"  # Textual leaves out its own colours then
    try:
        from labs.engine.learn.app import CourseApp
    except ModuleNotFoundError as error:
        raise CannotRun(f"{error.name} is not installed.", "pip install textual") from error
    from labs.engine.learn.chapters import find_chapters, read_standing
    from labs.engine.learn.run_screen import Manner
    from labs.engine.learn.words import speaker

    standing = read_standing()
    manner = Manner(options.language, speaker(options.language), has_signs=has_signs())
    return CourseApp(
        find_chapters(),
        standing,
        manner,
        first=options.lab,
        seed=options.seed,
        has_colour=has_colour,
    )


def show(app: CourseApp) -> ExitStatus:
    """Run the application to its end; raises what it failed with."""
    from labs.engine.learn.interrupts import handlers_kept

    collect_garbage_seldom()
    sys.setswitchinterval(SWITCH_INTERVAL)
    with handlers_kept():
        status = asyncio.run(run_to_the_end(app))
    if app.raised:
        raise app.raised
    return ExitStatus.INTERRUPTED if status is None else status


async def run_to_the_end(app: CourseApp) -> ExitStatus | None:
    """Run the application, and wait until what it has cancelled is over.

    asyncio would cancel that once more, in the middle of ending a lab.
    """
    status = await app.run_async(mouse=False)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=PATIENCE)
    return status


def collect_garbage_seldom() -> None:
    """Let no key wait for Python to look through all there is: that takes a tenth of a second."""
    gc.collect()
    gc.freeze()  # what is there now stays to the end
    gc.set_threshold(*COLLECTIONS)
