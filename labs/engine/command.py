"""The adapter to Invoke: errors become messages and exit statuses, labs become tasks."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, signal
from types import FrameType
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.parser.context import ParserContext
from invoke.parser.parser import Parser
from invoke.program import Program
from invoke.tasks import Task

from labs.engine.errors import BindlabError, ExitStatus, OutputLost, UsageError

SIGNALS = (SIGINT, SIGTERM, SIGHUP)


class StrictCollection(Collection):
    """A collection for which a wrong command line is status 2, where Invoke alone says 1."""

    def to_contexts(self, ignore_unknown_help: bool | None = None) -> list[ParserContext]:
        """Return what the parser needs; first, parse the command line as Invoke is about to."""
        contexts = super().to_contexts(ignore_unknown_help)
        try:
            Parser(contexts, Program().initial_context).parse_argv(sys.argv[1:])
        except ParseError as error:
            message = f"bindlab: {error} invoke --list shows what there is."
            raise Exit(message, ExitStatus.USAGE) from error
        return contexts


class CommandTask(Task):  # type: ignore[type-arg]  # generic only in its return value
    """A task whose errors are a message and an exit status, never a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        with exit_statuses():
            status = super().__call__(*args, **kwargs)
        if status:
            raise Exit(code=status)


def command(
    body: Callable[..., ExitStatus | None], name: str, options: dict[str, str] | None = None
) -> CommandTask:
    """A task from a function of a context, whose docstring's first line is what --list shows.

    `options` has the help of each option.
    """
    return CommandTask(body, name=name, help=options or {}, auto_shortflags=False)


@contextmanager
def exit_statuses() -> Iterator[None]:
    """Turn errors that a user can cause into Invoke's Exit."""
    try:
        yield
        sys.stdout.flush()
    except BindlabError as error:
        if isinstance(error, OutputLost):
            forget_output()
        hint = f"\n  {error.hint}" if error.hint else ""
        raise Exit(f"bindlab: {error.message}{hint}", error.status) from error
    except OSError as error:
        forget_output()
        message = f"bindlab: Could not write the output: {error.strerror}."
        raise Exit(message, ExitStatus.FAILED) from error


def forget_output() -> None:
    """Keep Python from writing at its end what can no longer be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_on_signals() -> None:
    """End with status 130 on Ctrl-C, SIGTERM and a closed terminal, once, without a traceback."""
    for number in SIGNALS:
        signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for other in SIGNALS:
        signal(other, SIG_IGN)
    sys.exit(ExitStatus.INTERRUPTED)


def is_dry(context: Context) -> bool:
    """Whether Invoke's own --dry was given, before the task's name."""
    return bool(context.config.run.dry)


def read_seed(text: str) -> int | None:
    """The number of --seed, None without one; UsageError where it is none."""
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--seed takes a whole number, not {text!r}.") from None
