"""The trainee's editor, which has the terminal while it is open."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus
from labs.engine.learn.interrupts import interrupts_left_alone

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import App

    from labs.engine.translation import Say

USUAL = ("nano", "vi")


def find_editor() -> str:
    """The command of the trainee's editor; empty where there is none."""
    for name in ("VISUAL", "EDITOR"):
        if os.environ.get(name):
            return os.environ[name]
    return next((name for name in USUAL if shutil.which(name)), "")


def edit(app: App[ExitStatus], program: Path, say: Say) -> str:
    """Open a program in the editor, and wait for its end; why that was not possible, or nothing."""
    editor = find_editor()
    if app.is_web:
        values = {"program": program}
        return say("There is no editor in the browser: use one of yours on {program}.", values)
    if not editor:
        return say("No editor was found: EDITOR names one.")
    try:
        words = shlex.split(editor)
    except ValueError:
        words = [editor]
    leave = partial(app.exit, ExitStatus.INTERRUPTED)
    with app.suspend(), interrupts_left_alone(leave):
        try:
            status = subprocess.run([*words, str(program)], check=False).returncode
        except OSError as error:
            return f"{editor}: {error.strerror}"
    if status:
        how = signal.Signals(-status).name if status < 0 else str(status)
        return say("{editor} has ended with {status}.", {"editor": editor, "status": how})
    return ""
