"""The adapter to Invoke: errors become messages and exit statuses, labs become tasks."""

import errno
import gc
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import (
    ITIMER_REAL,
    SIG_IGN,
    SIGALRM,
    SIGHUP,
    SIGINT,
    SIGTERM,
    getsignal,
    setitimer,
    signal,
)
from types import FrameType
from typing import Any, NoReturn

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.parser.parser import Parser
from invoke.program import Program
from invoke.tasks import Task

from labs.engine.errors import (
    BindlabError,
    ExitStatus,
    Interrupted,
    OutputLost,
    UsageError,
    output_error,
)
from labs.engine.strace import make_readable

# What write(2) may answer for a pipe, a terminal, a full or a closed standard output.
OUTPUT_ERRORS = (errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)
SIGNALS = (SIGINT, SIGTERM, SIGHUP)
HELP = ("--help", "-h")
# What was ignored from the start, as SIGHUP is under nohup(1), stays so.
RETRY = 0.001  # seconds until an interruption that could not be raised is raised again
HEEDED = tuple(number for number in SIGNALS if getsignal(number) is not SIG_IGN)


def check_command_line(namespace: Collection) -> None:
    """Refuse a wrong command line with status 2, where Invoke alone would say 1; show help.

    It is parsed here as Invoke is about to parse it, if it is Invoke that loads the tasks.
    """
    path = Path(sys.argv[0])
    if "invoke" not in (path.name, path.parent.name) and path.name != "inv":
        return
    core = Program().initial_context
    try:
        rest = Parser(initial=core, ignore_unknown=True).parse_argv(sys.argv[1:]).unparsed
        parser = Parser(namespace.to_contexts(), core)
        if name := find_asked_for_help(parser, rest):
            show_help(namespace, name)
        parser.parse_argv(rest)
    except ParseError as error:
        text = re.sub(r"<Argument: (\S+)>", r"--\1", str(error))
        leave(f"{text} invoke --list shows what there is.", ExitStatus.USAGE)


def find_asked_for_help(parser: Parser, words: list[str]) -> str:
    """The command after which --help or -h comes; empty for none.

    Invoke alone would take it for the value that a command needs which has one without a name.
    """
    place = next((at for at, word in enumerate(words) if word in HELP), None)
    if place is None:
        return ""
    try:
        return parser.parse_argv(words[:place])[-1].name or ""
    except ParseError as error:  # that value, or an option's, is still to come
        return (error.context and error.context.name) or ""


def show_help(namespace: Collection, name: str) -> NoReturn:
    """Show a command's help as Invoke does, and end."""
    with exit_statuses():
        Program(namespace=namespace, binary="inv[oke]").run(["", "--help", name], exit=False)
    raise Exit(code=0)


class CommandTask(Task):  # type: ignore[type-arg]  # generic only in its return value
    """A task whose errors are a message and an exit status, never a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        exit_on_signals()  # a task before this one may have come to its end
        with exit_statuses():
            status = super().__call__(*args, **kwargs)
        ignore_signals()  # from here on Python would die of one, or show a traceback
        # At its end Python would look through everything for garbage, a tenth of the whole run.
        gc.freeze()
        if status:
            raise Exit(code=status)

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the options; Invoke takes their help away as it reads it, here it stays."""
        options = dict(self.help)
        arguments = super().get_arguments(ignore_unknown_help)
        self.help = options
        return arguments


def command(
    body: Callable[..., int | None], name: str, options: dict[str, str] | None = None
) -> CommandTask:
    """A task from a function of a context, whose docstring's first line is what --list shows.

    `options` has the help of each option.
    """
    return CommandTask(body, name=name, help=options or {}, auto_shortflags=False)


@contextmanager
def exit_statuses() -> Iterator[None]:
    """Turn errors that a user can cause into a message and Invoke's Exit."""
    try:
        with output_errors():
            yield
            if sys.stdout:
                sys.stdout.flush()
    except Exit:
        raise
    except BindlabError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        leave(f"{error.message}{hint}", error.status)
    except Exception as error:  # a fault of bindlab's own: the only case with a traceback
        import traceback

        leave(f"{error!r}\n{traceback.format_exc()}", ExitStatus.FAILED)


@contextmanager
def output_errors() -> Iterator[None]:
    """Say of an error of standard output what it is, and try no more to write there."""
    try:
        yield
    except OutputLost:
        forget(1)
        raise
    except OSError as error:
        if error.errno not in OUTPUT_ERRORS:
            raise
        forget(1)
        raise output_error(error) from error


def leave(message: str, status: ExitStatus) -> NoReturn:
    """End the command with a message on standard error, if that can be written."""
    ignore_signals()
    try:
        if sys.stderr:
            lines = map(make_readable, message.split("\n"))
            sys.stderr.write("\n".join(["bindlab: " + next(lines), *lines, ""]))
            sys.stderr.flush()
    except OSError:
        forget(2)
    raise Exit(code=status)


def forget(descriptor: int) -> None:
    """Keep Python from writing at its end what can no longer be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)


def exit_on_signals() -> None:
    """End with status 130 on Ctrl-C, SIGTERM and a closed terminal, once, without a traceback."""
    for number in HEEDED:
        signal(number, _interrupt)
    sys.unraisablehook = _interrupt_later


def ignore_signals() -> None:
    """Let nothing interrupt what is left to do."""
    for number in SIGNALS:
        signal(number, SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    ignore_signals()
    raise Interrupted(ExitStatus.INTERRUPTED)


def _interrupt_later(unraisable: "sys.UnraisableHookArgs") -> None:
    """Interrupt in a moment, where it came in a callback of Python's that no error may leave.

    Each import has one, as its lock is freed: a signal just then would be lost, and be a traceback.
    """
    if unraisable.exc_type is not Interrupted:
        sys.__unraisablehook__(unraisable)
        return
    signal(SIGALRM, _interrupt)
    setitimer(ITIMER_REAL, RETRY)


def is_dry(context: Context) -> bool:
    """Whether Invoke's own --dry was given, before the task's name."""
    return bool(context.config.run.dry)


def read_number(option: str, text: str | None) -> int | None:
    """The number of an option, None without one; UsageError where it is none."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--{option} takes a whole number, not {text!r}.") from None
