"""Runs all labs on one kernel, in a process of its own that tells how far it is.

A guest lives as long as the thread that started it, and fork() in a program of several threads is
unsafe: so each column of the matrix is a process of one thread, forked before there is any other.
It goes with the controlling process, and with it goes its guest.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import TYPE_CHECKING

from labs.engine.backends.namespaces.keeper import part_from
from labs.engine.errors import BindlabError, CannotRun, EngineError, ExitStatus
from labs.engine.kernels.boot import booting
from labs.engine.kernels.comparison import Result, make_result
from labs.engine.model import RunEnded, StepStarted
from labs.engine.progress import InstructionStarted, OutputWritten
from labs.engine.record import Record
from labs.engine.runner import Options, open_place, run_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from typing import NoReturn, TypeAlias

    from labs.engine.kernels.kernel import Kernel
    from labs.engine.model import Event
    from labs.engine.runner import View
    from labs.engine.script import Lab

    Message: TypeAlias = InstructionStarted | OutputWritten | Result | str
    """How far it is, what came of a lab, or (a text) what it could not go on for."""

    Run: TypeAlias = Callable[[Lab, Sequence[View]], ExitStatus]


@dataclass(frozen=True)
class Column:
    """A kernel of the matrix: None is this machine's own; `obstacle` says why it cannot be had."""

    name: str
    kernel: Kernel | None = None
    obstacle: CannotRun | None = None


class Worker:
    """The process of a column; it waits until it is told to go."""

    def __init__(self, column: Column, pid: int, connection: Connection) -> None:
        self.name = column.name
        self.connection = connection
        self._pid = pid

    def go(self, processor: int) -> None:
        """Let it run, its guests on this processor."""
        with contextlib.suppress(OSError):  # one that has ended is seen as its end of file
            self.connection.send(processor)

    def receive(self) -> Message | None:
        """What it tells next, None where it has ended."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return None
        return message

    def wait_for_end(self) -> None:
        """Wait until its guest is powered off."""
        while self.receive() is not None:
            pass

    def close(self) -> None:
        """See that it is over; the kernel sees to its guest and processes."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self.connection.close()


def start_worker(column: Column, labs: Sequence[Lab]) -> Worker:
    """Fork the process of a column; EngineError where that cannot be."""
    controller = os.getpid()
    # Until the child's own handlers are in place, an interruption would unwind a copy of this.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            work(column, labs, theirs, controller)
        theirs.close()
    except OSError as error:
        raise EngineError(f"No process for {column.name}: {error.strerror}.") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Worker(column, pid, ours)


def work(column: Column, labs: Sequence[Lab], connection: Connection, controller: int) -> NoReturn:
    """What the process of a column does from its fork to its end; never returns."""
    try:
        part_from(controller, connection.fileno())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        with contextlib.suppress(EOFError):
            processor = connection.recv()
            for message in run_column(column, labs, processor, connection.send):
                connection.send(message)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


def run_column(
    column: Column, labs: Sequence[Lab], processor: int, tell: Callable[[Message], None]
) -> Iterator[Result]:
    """Run labs one after the other in one guest; where one fails, the next gets a new guest."""
    left = list(enumerate(labs, 1))
    while left:
        try:
            with open_column(column, processor) as run:
                healthy = True
                while left and healthy:
                    number, lab = left[0]
                    tell(InstructionStarted(column.name, number, len(labs), lab.name))
                    result = run_one(column, lab, run, tell)
                    left.pop(0)
                    yield result
                    healthy = result.status is not ExitStatus.FAILED
        except BindlabError as error:
            # It did not boot, and will not for the next lab either.
            for _, lab in left:
                problem = (error.message, error.hint)
                yield make_result(column.name, lab.name, error.status, problem, None)
            return


@contextlib.contextmanager
def open_column(column: Column, processor: int) -> Iterator[Run]:
    """Where a column's labs run; raises BindlabError where that cannot be had."""
    if column.kernel is None:
        yield run_here
        return
    with booting(column.kernel, processor) as guest:
        guest.wait_until_ready()
        yield lambda lab, views: run_inside(lab, guest, Options(), views)


def run_here(lab: Lab, views: Sequence[View]) -> ExitStatus:
    """Run a lab on this machine's own kernel."""
    with open_place(Options(), lambda: views) as place:
        return place(lab)


def run_one(column: Column, lab: Lab, run: Run, tell: Callable[[Message], None]) -> Result:
    """Run one lab and tell its steps as they start."""
    record = Record()
    last: RunEnded | None = None

    def see(event: Event) -> None:
        nonlocal last
        record(event)
        if isinstance(event, StepStarted):
            tell(OutputWritten(column.name, event.title))
        elif isinstance(event, RunEnded):
            last = event

    try:
        status = run(lab, [see])
    except BindlabError as error:
        problem = (error.message, error.hint)
        return make_result(column.name, lab.name, error.status, problem, None)
    assert last is not None
    return make_result(column.name, lab.name, status, (last.error, last.hint), record.to_json())
