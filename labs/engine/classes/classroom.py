"""What `invoke class.run` does: a lab for each learner, on one engine or a swarm, and the table."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.classes.controller import Controller, Limits
from labs.engine.classes.folder import Manifest, open_folder
from labs.engine.classes.roster import read_roster
from labs.engine.classes.table import Table
from labs.engine.errors import BindlabError, ExitStatus, Interrupted, UsageError, standard_output
from labs.engine.runner import check_standard_output
from labs.engine.views.classroom import ProgressView, TableView
from labs.engine.views.html import open_page, write_class
from labs.engine.views.json import STANDARD_OUTPUT, open_document
from labs.engine.views.report.learners import show_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from labs.engine.classes.cluster import Cluster
    from labs.engine.classes.result import Result
    from labs.engine.classes.roster import Learner
    from labs.engine.script import Lab

USUAL_LAB = "euid"
USUAL_SECONDS = 180.0  # no lab takes half of it on an idle machine
MOST_JOBS = 256
RESUME = "The same command with --resume goes on with the others."


@dataclass(frozen=True)
class ClassOptions:
    """Which class, in which folder, and its limits; None and empty for the usual."""

    learners: str
    lab: str = USUAL_LAB
    folder: str = ""
    resume: bool = False
    jobs: int | None = None
    seconds: int | None = None
    json: str | None = None
    html: str | None = None


def run_class(labs: Sequence[Lab], options: ClassOptions) -> ExitStatus:
    """Run a class and show what came of it; raises UsageError, CannotRun and EngineError."""
    check_options(labs, options)
    check_standard_output({"json": options.json, "html": options.html})
    learners = read_roster(options.learners)
    manifest = Manifest(options.lab, tuple(learner.name for learner in learners))
    path = Path(options.folder or f"class-{options.lab}")
    with (
        open_document("A class table", options.json) as write,
        open_page(options.html) as page,
        open_folder(path, manifest, resume=options.resume) as folder,
    ):
        started = time.monotonic()
        results = dict(folder.read_results(learners))
        waiting = [learner for learner in learners if learner.name not in results]
        progress = ProgressView(sys.stderr or standard_output(), len(learners), len(results))
        with explained_end(progress, results, len(learners)):
            if waiting:
                with open_cluster() as cluster:
                    for result in conduct(cluster, waiting, options, progress.show_notice):
                        if result.outcome:
                            folder.keep(result)
                        results[result.learner] = result
                        progress.show_result(result)
        table = Table(options.lab, tuple(results[learner.name] for learner in learners))
        folder.write_table(table)
        if write:
            write(table)
        if page:
            write_class(show_class(table), page)
        to_errors = STANDARD_OUTPUT in (options.json, options.html)
        TableView(sys.stderr if to_errors else standard_output()).show(
            table, time.monotonic() - started
        )
    return table.status


def conduct(
    cluster: Cluster,
    learners: Sequence[Learner],
    options: ClassOptions,
    notice: Callable[[str, str], None],
) -> Iterator[Result]:
    """Yield the results of these learners as they come."""
    jobs = options.jobs or min(cluster.count_slots(), MOST_JOBS)
    controller = Controller(cluster, Limits(jobs, options.seconds or USUAL_SECONDS), notice)
    yield from controller.run(options.lab, learners)


def check_options(labs: Sequence[Lab], options: ClassOptions) -> None:
    """See that the options make sense; raises UsageError."""
    known = [lab.name for lab in labs]
    if options.lab not in known:
        raise UsageError(f"There is no lab {options.lab!r}; there are {', '.join(known)}.")
    if options.jobs is not None and not 1 <= options.jobs <= MOST_JOBS:
        raise UsageError(f"--jobs takes a number from 1 to {MOST_JOBS}, not {options.jobs}.")
    if options.seconds is not None and options.seconds < 1:
        raise UsageError(f"--seconds takes a number from 1 on, not {options.seconds}.")


@contextlib.contextmanager
def open_cluster() -> Iterator[Cluster]:
    """The swarm that the engine at hand manages, or that engine alone; CannotRun without one.

    Nothing is left on it after the block, or after this process.
    """
    from labs.engine.backends.docker.client import find_swarm
    from labs.engine.backends.docker.images import find_workbench
    from labs.engine.backends.docker.watchdog import watched_run
    from labs.engine.classes.single import SingleEngine
    from labs.engine.classes.swarm import Swarm

    with watched_run() as (client, labels, watchdog):
        image = find_workbench(client)
        if find_swarm(client):
            yield Swarm(client, labels, image, watchdog)
            return
        single = SingleEngine(client, labels, image, watchdog)
        try:
            yield single
        finally:
            single.close()


@contextlib.contextmanager
def explained_end(
    progress: ProgressView, results: dict[str, Result], learners: int
) -> Iterator[None]:
    """Say of a class that ends early how far it is, and how it goes on."""
    try:
        yield
    except (Interrupted, BindlabError) as error:
        kept = sum(result.outcome is not None for result in results.values())
        if kept or isinstance(error, Interrupted):
            with contextlib.suppress(BindlabError):
                progress.show_notice(f"Ended early: {kept} of {learners} have a result.", RESUME)
        raise
