"""Does many things side by side, each in a process of its own that is forked for it.

A process, for the namespaces of a run end with the thread that has opened them, and so that one
that hangs or dies is that one alone.
"""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from labs.engine.errors import BindlabError, EngineError, UsageError
from labs.engine.system import PR_SET_PDEATHSIG, prctl

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

MOST_JOBS = 64  # at once

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Work(Generic[Job]):
    """A job that a process is at, where its answer comes from, and until when it is waited for."""

    job: Job
    process: ForkProcess
    answers: Connection
    end: float


def choose_count(jobs: int | None) -> int:
    """How many are to be done at once, of --jobs or the processors there are; UsageError."""
    count = len(os.sched_getaffinity(0)) if jobs is None else jobs
    if not 1 <= count <= MOST_JOBS:
        raise UsageError(f"--jobs takes a number from 1 to {MOST_JOBS}, not {count}.")
    return count


def work_off(
    jobs: Sequence[Job], do: Callable[[Job], Result], *, at_once: int, seconds: float
) -> Generator[tuple[Job, Result | BindlabError], None, None]:
    """Do each job, so many at once, and yield what comes of each as it comes.

    An error that `do` raises is what comes of it, and so is an EngineError where the process dies
    or takes longer than so many seconds. All processes end when the iterator is closed.
    """
    waiting = deque(jobs)
    working: list[Work[Job]] = []
    try:
        while waiting or working:
            while waiting and len(working) < at_once:
                working.append(start(waiting.popleft(), do, seconds))
            for work in wait_for_some(working):
                working.remove(work)
                yield work.job, take(work, seconds)
    finally:
        for work in working:
            end(work)


def start(job: Job, do: Callable[[Job], Result], seconds: float) -> Work[Job]:
    """Fork a process that does a job."""
    answers, theirs = multiprocessing.Pipe(duplex=False)
    parent = os.getpid()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=be_worker, args=(job, do, theirs, parent))
    process.start()
    theirs.close()
    return Work(job, process, answers, time.monotonic() + seconds)


def be_worker(job: Job, do: Callable[[Job], Result], answers: Connection, parent: int) -> None:
    """What the process does; it ends with its parent, and a terminal's signals are not for it."""
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    gc.freeze()  # what the parent has made is no garbage to look for here
    try:
        answers.send(do(job))
    except BindlabError as error:
        answers.send(error)
    except Exception as error:
        answers.send(EngineError(f"{type(error).__name__}: {error}"))
    finally:
        answers.close()
        os._exit(0)  # nothing of what the parent has open is to be flushed or closed here


def wait_for_some(working: Sequence[Work[Job]]) -> list[Work[Job]]:
    """Wait until some have an answer, have died or are overdue."""
    left = max(min(work.end for work in working) - time.monotonic(), 0)
    ready = multiprocessing.connection.wait([work.answers for work in working], left)
    now = time.monotonic()
    return [work for work in working if work.answers in ready or work.end <= now]


def take(work: Work[Job], seconds: float) -> Result | BindlabError:
    """What came of a job, whose process then is gone."""
    try:
        if not work.answers.poll():
            return EngineError(f"It took longer than {seconds:g} seconds, and was ended.")
        answer: Result | BindlabError = work.answers.recv()
    except EOFError:
        return EngineError("The process that was at it has died.")
    else:
        return answer
    finally:
        end(work)


def end(work: Work[Job]) -> None:
    """End a process, if it has not ended, and wait for it."""
    work.process.kill()
    work.process.join()
    work.process.close()
    work.answers.close()
