"""`invoke kernel.matrix`: every lab on every kernel, and where the kernels are not alike."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, ExitStatus, UsageError, standard_output
from labs.engine.kernels.catalogue import ALL, KNOWN, choose_known, find_kernel
from labs.engine.kernels.column import Column, start_worker
from labs.engine.kernels.comparison import (
    WORDS,
    Matrix,
    Result,
    find_changes,
    find_differences,
    find_skipped_steps,
    find_stops,
    read_matrix,
)
from labs.engine.kernels.kernel import Machine
from labs.engine.kernels.listing import find_lacks
from labs.engine.kernels.store import find_stored
from labs.engine.progress import ImageDone, ImagesPlanned, ImageStarted
from labs.engine.reading import read_file
from labs.engine.runner import check_standard_output, foremost
from labs.engine.views.html import open_page, write_matrix
from labs.engine.views.json import STANDARD_OUTPUT, open_document
from labs.engine.views.matrix import MatrixView
from labs.engine.views.progress import open_progress_view
from labs.engine.views.report.kernels import show_content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from labs.engine.kernels.column import Worker
    from labs.engine.progress import Progress
    from labs.engine.script import Lab

HOST = "host"  # the name of this machine's own kernel
GUEST_MEMORY = 256  # MiB, the most that a guest takes
GROUPS = (ALL, *Machine)


@dataclass(frozen=True)
class MatrixOptions:
    """What --kernels, --labs and --jobs ask for, empty or None for the usual; and files."""

    kernels: str = ""
    labs: str = ""
    jobs: int | None = None
    json: str | None = None
    against: str | None = None
    html: str | None = None


def run_matrix(labs: Sequence[Lab], options: MatrixOptions) -> ExitStatus:
    """Run every lab on every kernel and show what came of it; raises UsageError and EngineError."""
    chosen = choose_labs(labs, options.labs)
    columns = choose_columns(options.kernels) if options.kernels else choose_usual()
    jobs = count_jobs(options.jobs)
    earlier = None if options.against is None else read_earlier(options.against)
    check_standard_output({"json": options.json, "html": options.html})
    with open_document("A matrix", options.json) as write, open_page(options.html) as page:
        started = time.monotonic()
        matrix = fill(columns, chosen, jobs)
        closing = closing_line(matrix, time.monotonic() - started)
        changes = None if earlier is None else find_changes(earlier, matrix)
        releases = [] if earlier is None else compare_releases(earlier, matrix)
        if write:
            write(matrix)
        if page:
            compared = None if changes is None else (str(options.against), changes, releases)
            write_matrix(show_content(matrix, closing, compared), page)
    is_taken = STANDARD_OUTPUT in (options.json, options.html)
    view = MatrixView(sys.stderr if is_taken else standard_output())
    statuses = [result.status for result in matrix.results]
    show_matrix(view, matrix)
    if changes:
        view.show_changes(str(options.against), changes, releases)
        if changes.changes:
            statuses.append(ExitStatus.DIFFERS)
    view.show_end(closing)
    return foremost(statuses)


# --- what to run --------------------------------------------------------------------------


def choose_labs(labs: Sequence[Lab], text: str) -> Sequence[Lab]:
    """The labs of a list with commas between, all without one; UsageError for one unknown."""
    names = list(filter(None, text.split(",")))
    known = [lab.name for lab in labs]
    for name in names:
        if name not in known:
            raise UsageError(f"There is no lab {name!r}; there are {', '.join(known)}.")
    return [lab for lab in labs if lab.name in names or not names]


def choose_columns(text: str) -> Sequence[Column]:
    """The kernels of a list, in its order, each once: `host`, what --kernel takes, uml, qemu, all.

    UsageError for what is none; one that cannot be had is a column all the same.
    """
    columns: dict[str, Column] = {}
    for word in filter(None, text.split(",")):
        named = [HOST] if word in (HOST, ALL) else []
        if word in GROUPS:
            named += [known.name for known in choose_known(word)]
        for name in named or [word]:
            column = make_column(name)
            columns.setdefault(column.name, column)
    if not columns:
        raise UsageError("--kernels names no kernel.")
    return list(columns.values())


def make_column(name: str) -> Column:
    """The column of a kernel; UsageError where it is none."""
    if name == HOST:
        return Column(HOST)
    try:
        kernel = find_kernel(name)
    except CannotRun as error:
        return Column(name, obstacle=error)
    return Column(kernel.name, kernel)


def choose_usual() -> Sequence[Column]:
    """This machine's kernel and all of User-Mode Linux that were fetched; says which were not."""
    known = [known for known in KNOWN if known.machine is Machine.UML]
    names = [each.name for each in known if find_stored(each.full_name)]
    missing = [each.name for each in known if each.name not in names]
    if missing and not find_lacks(Machine.UML) and sys.stderr:
        sys.stderr.write(
            f"Without {', '.join(missing)}: not fetched.\n"
            f"  invoke kernel.fetch {','.join(missing)}\n"
        )
    return [make_column(name) for name in (HOST, *names)]


def count_jobs(wanted: int | None) -> int:
    """How many kernels run at once: as many as there are processors and memory for."""
    if wanted is not None:
        if wanted < 1:
            raise UsageError(f"--jobs takes a number from 1 on, not {wanted}.")
        return wanted
    return max(1, min(len(os.sched_getaffinity(0)), available_memory() // GUEST_MEMORY))


def available_memory() -> int:
    """What can be had without swapping, in MiB (MemAvailable of proc(5))."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes["MemAvailable"].split()[0]) // 1024


# --- running ------------------------------------------------------------------------------


def fill(columns: Sequence[Column], labs: Sequence[Lab], jobs: int) -> Matrix:
    """Run all columns, some at a time, and show how far they are."""
    names = tuple(column.name for column in columns)
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        workers: list[Worker] = []
        # Before the view, which has a thread.
        for column in columns:
            if column.obstacle is None:
                workers.append(start_worker(column, labs))
                stack.callback(workers[-1].close)
        show = stack.enter_context(open_progress(sys.stderr))
        show(ImagesPlanned(names))
        for column in columns:
            if column.obstacle:
                problem = column.obstacle
                results += stopped(column.name, labs, problem.status, problem.message, problem.hint)
                show(ImageDone(column.name, kept=problem.message, failed=True))
        results += collect(deque(workers), labs, jobs, show)
        for worker in workers:
            worker.wait_for_end()
    return Matrix(names, tuple(lab.name for lab in labs), tuple(results))


def collect(
    waiting: deque[Worker], labs: Sequence[Lab], jobs: int, show: Callable[[Progress], None]
) -> Iterator[Result]:
    """Let workers go as slots become free, and yield what comes of it, a result for each lab."""
    processors = sorted(os.sched_getaffinity(0))
    free = deque(range(jobs))
    running: dict[object, tuple[Worker, int]] = {}
    results: dict[str, list[Result]] = {}
    while waiting or running:
        while waiting and free:
            worker = waiting.popleft()
            results[worker.name] = []
            running[worker.connection] = worker, free.popleft()
            show(ImageStarted(worker.name))
            worker.go(processors[running[worker.connection][1] % len(processors)])
        for connection in wait([worker.connection for worker, _ in running.values()]):
            worker, slot = running[connection]
            done = results[worker.name]
            message = worker.receive()
            if isinstance(message, Result):
                done.append(message)
                yield message
            elif message is not None and not isinstance(message, str):
                show(message)
            if message is None or isinstance(message, str) or len(done) == len(labs):
                reason = f": {message}" if isinstance(message, str) else ""
                error = f"The process that ran the labs has ended{reason}."
                rest = stopped(worker.name, labs[len(done) :], ExitStatus.FAILED, error)
                yield from rest
                show(sum_up(worker.name, [*done, *rest]))
                del running[connection]
                free.append(slot)


def stopped(
    kernel: str, labs: Sequence[Lab], status: ExitStatus, error: str, hint: str = ""
) -> Sequence[Result]:
    """The results of labs that could not be run on a kernel."""
    return [Result(kernel, lab.name, status, error, hint) for lab in labs]


def sum_up(kernel: str, results: Sequence[Result]) -> ImageDone:
    """The end of a column."""
    failed = any(result.status != ExitStatus.PASSED for result in results)
    return ImageDone(kernel, kept=count_words(results), failed=failed)


def count_words(results: Sequence[Result]) -> str:
    """How many labs passed, differ, were skipped, failed."""
    counts = Counter(result.status for result in results)
    return ", ".join(f"{counts[status]} {WORDS[status]}" for status in WORDS if counts[status])


@contextlib.contextmanager
def open_progress(stream: TextIO | None) -> Iterator[Callable[[Progress], None]]:
    """The progress view that fits the stream; none where there is no stream."""
    if stream is None:
        yield lambda _: None
        return
    with open_progress_view(stream) as show:
        yield show
    if stream.isatty():
        stream.write("\n")


# --- what came of it ----------------------------------------------------------------------


def show_matrix(view: MatrixView, matrix: Matrix) -> None:
    """Show the table, and what it does not say."""
    view.show_table(matrix)
    view.show_stops(matrix, find_stops(matrix))
    view.show_skipped(matrix, [*find_skipped_steps(matrix)])
    view.show_differences(matrix, find_differences(matrix))


def closing_line(matrix: Matrix, seconds: float) -> str:
    """What was run, for how long, and what came of it."""
    labs, kernels = len(matrix.labs), len(matrix.kernels)
    what = f"{labs} lab{'s' * (labs != 1)} on {kernels} kernel{'s' * (kernels != 1)}"
    return f"{what} in {seconds:.1f} s: {count_words(matrix.results)}"


def compare_releases(before: Matrix, after: Matrix) -> Sequence[str]:
    """Which kernels are of another release than in an earlier matrix: this is no change."""
    both = [kernel for kernel in after.kernels if kernel in before.kernels]
    releases = [
        (kernel, before.find_run(kernel, "kernel"), after.find_run(kernel, "kernel"))
        for kernel in both
    ]
    return [f"{kernel} was {was}, is {now}" for kernel, was, now in releases if was and now != was]


# --- files --------------------------------------------------------------------------------


def read_earlier(name: str) -> Matrix:
    """The matrix of a file; UsageError where there is none in it."""
    return read_file(
        name, read_matrix, "is no matrix", "invoke kernel.matrix --json FILE writes one."
    )
