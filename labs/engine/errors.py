"""What can go wrong, as one tree; each error has a message, a hint and an exit status.

    BindlabError
    ├── UsageError    2    the command line asks for something that does not exist
    ├── LabError      70   a lab's script is broken: says its file and line
    ├── EngineError   70   bindlab itself failed: an agent died or hung, a file could not be written
    ├── CannotRun     125  this machine lacks something: says what, and the command that gives it
    │   └── Unsupported    this backend cannot do that; inside a step the step is skipped
    └── OutputLost    130  whoever read the output has left

Errors of other libraries are converted to these at the adapter that calls the library.
"""

import errno
import sys
from enum import IntEnum
from typing import TextIO


class ExitStatus(IntEnum):
    """What a bindlab command tells the shell. Nothing but a pass is 0."""

    PASSED = 0
    USAGE = 2
    DIFFERS = 3
    UNSOLVED = 4
    FAILED = 70
    CANNOT_RUN = 125
    INTERRUPTED = 130


class BindlabError(Exception):
    """The base of all errors that bindlab raises on purpose.

    `message` is one sentence on what happened, `hint` (may be empty) on what to do about it.
    """

    status = ExitStatus.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BindlabError):
    """The command line asks for something that does not exist or cannot be done."""

    status = ExitStatus.USAGE


class LabError(BindlabError):
    """A lab's script is broken; never to be read as a wrong outcome."""


class EngineError(BindlabError):
    """bindlab itself failed."""


class CannotRun(BindlabError):
    """The machine lacks something that the run needs."""

    status = ExitStatus.CANNOT_RUN


class Unsupported(CannotRun):
    """This backend cannot do what a lab asks for, and another can.

    Inside a step it skips the step, for this reason; outside it is the end of the lab.
    """


class Interrupted(SystemExit):
    """Raised by a signal; unlike a script's own SystemExit it is nobody's fault."""


class OutputLost(BindlabError):
    """Whoever read the output has left: a closed pipe or terminal."""

    status = ExitStatus.INTERRUPTED


def standard_output() -> TextIO:
    """Standard output; EngineError where it was closed before the start."""
    if sys.stdout is None:
        raise EngineError("There is no standard output to write to.")
    return sys.stdout


def output_error(error: OSError) -> BindlabError:
    """The error for output that could not be written."""
    if error.errno in (errno.EPIPE, errno.EIO):
        return OutputLost("Nobody reads the output any more.")
    return EngineError(f"Could not write the output: {error.strerror}.")
