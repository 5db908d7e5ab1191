"""Runs labs: backend, script, views, and the exit status that comes of it."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, TypeAlias

from labs.engine.errors import (
    BindlabError,
    ExitStatus,
    Interrupted,
    LabError,
    UsageError,
    output_error,
    standard_output,
)
from labs.engine.layout import Layout
from labs.engine.model import PLAN, CallMade, Concluded, RunEnded, RunStarted, StepEnded, Verdict
from labs.engine.session import Session
from labs.engine.translation import ENGLISH, check_language, read_translation
from labs.engine.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from labs.engine.agent import Message
    from labs.engine.backend import Backend
    from labs.engine.kernels.boot import Guest
    from labs.engine.model import Event, StepStarted
    from labs.engine.predictor import Asker
    from labs.engine.translation import Say, Translation

    View: TypeAlias = Callable[[Event], None]
    Place: TypeAlias = Callable[["Scenario"], ExitStatus]

    class Scenario(Protocol):
        """What can be run: a lab, or the check of a challenge with a submission.

        `file` is its script, `folder` where its texts are; `request` is how an isolated kernel is
        asked for it.
        """

        @property
        def name(self) -> str: ...  # noqa: D102
        @property
        def title(self) -> str: ...  # noqa: D102
        @property
        def claim(self) -> str: ...  # noqa: D102
        @property
        def folder(self) -> Path: ...  # noqa: D102
        @property
        def file(self) -> str: ...  # noqa: D102
        @property
        def request(self) -> Message: ...  # noqa: D102

        def play(self, session: Session, translation: Translation) -> None:
            """Run the script to its end; raises what stops it."""

        def judge(self, verdicts: Sequence[Verdict]) -> ExitStatus:
            """The status of a run that came to its end; LabError where there was no step."""


RULES = Path(__file__).parent / "rules"  # where the translation of their sentences is
BACKENDS = ("namespaces", "docker")

# What a run of several labs answers is the first of these that any of them answered.
PRECEDENCE = (
    ExitStatus.FAILED,
    ExitStatus.DIFFERS,
    ExitStatus.UNSOLVED,
    ExitStatus.CANNOT_RUN,
    ExitStatus.PASSED,
)


@dataclass(frozen=True)
class Options:
    """How to run; `backend` is one of BACKENDS, `kernel` what boots, `language` one of LANGUAGES.

    `json`, `junit` and `html` are names of files, "-" being standard output.
    """

    backend: str = "namespaces"
    seed: int | None = None
    dry: bool = False
    pause: bool = False
    json: str | None = None
    kernel: str | None = None
    language: str = ENGLISH
    predict: bool = False
    junit: str | None = None
    html: str | None = None
    picture: bool = False

    @property
    def takes_output(self) -> bool:
        """Whether standard output is for a document."""
        return "-" in (self.json, self.junit, self.html)


def run_labs(labs: Sequence[Scenario], options: Options) -> ExitStatus:
    """Run labs one after the other and show them; raises UsageError, or CannotRun for the first."""
    check_options(options)
    pause = [make_pause()] if options.pause else []
    asker = make_questions(options) if options.predict else None
    with contextlib.ExitStack() as stack:
        records: list[View] = []
        reports: list[View] = []
        if options.json is not None:
            from labs.engine.views.json import open_json_view

            records.append(stack.enter_context(open_json_view(options.json)))
        if options.junit is not None:
            from labs.engine.views.junit import open_junit_view

            reports.append(stack.enter_context(open_junit_view(options.junit)))
        if options.html is not None:
            from labs.engine.views.html import open_html_view

            reports.append(stack.enter_context(open_html_view(options.html)))

        @functools.cache
        def views() -> Sequence[View]:
            """The views, which are made while what they will show starts."""
            # A report's clock starts when nobody is waited for any more.
            every = [*records, make_terminal_view(options), *pause, *reports]
            if asker:
                return [predicting(labs, asker, every)]
            return [plan_only(view) for view in every] if options.dry else every

        run = stack.enter_context(open_place(options, views))
        statuses = [run(lab) for lab in labs]
    return foremost(statuses)


def foremost(statuses: Collection[ExitStatus]) -> ExitStatus:
    """What several come to: the first of PRECEDENCE that any has."""
    return next(status for status in PRECEDENCE if status in statuses)


def check_options(options: Options) -> None:
    """UsageError for options that there are not, or that do not go together."""
    if options.backend not in BACKENDS:
        raise UsageError(
            f"There is no backend {options.backend}; there are {' and '.join(BACKENDS)}."
        )
    check_language(options.language)
    if options.kernel and options.backend != BACKENDS[0]:
        raise UsageError(
            f"Inside a kernel of its own there is no {options.backend}: --kernel alone."
        )
    if options.dry:
        nothing = {
            "there is nothing to pause": options.pause,
            "there is nothing to draw": options.picture,
            "there is nothing to predict": options.predict,
            "there is nothing to report": bool(options.junit or options.html),
        }
        for reason in (reason for reason, is_asked in nothing.items() if is_asked):
            raise UsageError(f"--dry starts nothing: {reason}.")
    check_standard_output({"json": options.json, "junit": options.junit, "html": options.html})


def check_standard_output(files: Mapping[str, str | None]) -> None:
    """UsageError where more than one of these options, by name, takes standard output."""
    if [*files.values()].count("-") > 1:
        raise UsageError(f"Standard output takes one document: --{' or --'.join(files)}.")


@contextlib.contextmanager
def open_place(options: Options, views: Callable[[], Sequence[View]]) -> Iterator[Place]:
    """Where labs run: on this kernel, or inside one that is booted for them; raises CannotRun."""
    if options.kernel is None or options.dry:

        def run_here(lab: Scenario) -> ExitStatus:
            with open_backend(lab, options) as backend:
                layout = Layout(options.seed)
                status = run_lab(
                    lab, backend, layout, views(), options.language, follows=not options.dry
                )
            return plan_status(status) if options.dry else status

        yield run_here
        return
    from labs.engine.kernels.boot import booting, one_processor
    from labs.engine.kernels.catalogue import find_kernel

    with booting(find_kernel(options.kernel), one_processor()) as guest:
        views()
        guest.wait_until_ready()
        yield lambda lab: run_inside(lab, guest, options, views())


def run_inside(lab: Scenario, guest: Guest, options: Options, views: Sequence[View]) -> ExitStatus:
    """Run one lab inside a kernel that has booted; CannotRun where it does not get to its start."""
    started = False

    def emit(event: Event) -> None:
        nonlocal started
        started = True
        show(views, event)

    try:
        return guest.run(lab.request, options.seed, emit, options.language)
    except BindlabError as error:
        if not started:
            raise
        emit(RunEnded(ExitStatus.FAILED, error.message, error.hint))
        return ExitStatus.FAILED


def run_lab(
    lab: Scenario,
    backend: Backend,
    layout: Layout,
    views: Sequence[View],
    language: str = ENGLISH,
    *,
    follows: bool = True,
) -> ExitStatus:
    """Run one lab on a backend, its texts in this language as far as it has them.

    Where it `follows`, each step says by which rule it was decided.
    """
    say = read_translation(lab.folder, language)

    emit = functools.partial(show, views)
    session = open_session(backend, layout, emit, language, follows=follows)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    emit(
        RunStarted(
            lab.name,
            say.text(lab.title),
            say.text(lab.claim),
            VERSION,
            backend.name,
            backend.kernel,
            "",
            layout.seed,
            started,
            language,
        )
    )
    try:
        lab.play(session, say)
        status = lab.judge(session.verdicts)
        emit(RunEnded(status))
    except Interrupted:
        raise
    except (Exception, SystemExit) as error:
        problem = explain_failure(lab, error)
        status = problem.status
        if isinstance(error, NameError) and Verdict.DIFFERS in session.verdicts:
            # A step that was refused leaves its variables unset; the difference came first.
            status = ExitStatus.DIFFERS
        emit(RunEnded(status, problem.message, problem.hint))
    return status


def open_session(
    backend: Backend, layout: Layout, emit: View, language: str, *, follows: bool
) -> Session:
    """A session, which says in this language by which rules steps were decided if it `follows`."""
    if not follows:
        return Session(backend, layout, emit)
    from labs.engine.following.follower import follow

    return Session(backend, layout, emit, follow(backend.kernel), speak_of_rules(language))


def load_rules() -> None:
    """Load what says by which rule a step was decided."""
    import labs.engine.following.follower  # noqa: F401


def speak_of_rules(language: str) -> Say:
    """What puts the rules' sentences into a language."""
    return read_translation(RULES, language).text


def explain_failure(lab: Scenario, error: BaseException) -> BindlabError:
    """What stopped a script: an error of its own gets its file and line."""
    if isinstance(error, BindlabError) and not isinstance(error, LabError):
        return error
    text = error.message if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
    file = lab.file
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)
    where = f"{file}:{line}" if line else file
    return LabError(f"The lab's script could not go on at {where}: {text}")


def show(views: Sequence[View], event: Event) -> None:
    """Give an event to each view; OutputLost or EngineError where it cannot be written."""
    try:
        for view in views:
            view(event)
    except OSError as error:
        raise output_error(error) from error


@contextlib.contextmanager
def open_backend(lab: Scenario, options: Options) -> Iterator[Backend]:
    """The backend that the options ask for; a plan needs no kernel."""
    if options.dry:
        from labs.engine.backends.fake import FakeBackend

        yield FakeBackend()
    elif options.backend == "docker":
        from labs.engine.backends.docker.backend import open_docker
        from labs.engine.rehearsal import rehearse

        with open_docker(rehearse(lab, options.seed)) as docker:
            yield docker
    else:
        from labs.engine.backends.namespaces.backend import open_namespaces

        with open_namespaces(meanwhile=load_rules) as namespaces:
            yield namespaces


def make_pause() -> View:
    """The view that waits for Enter before each step; UsageError where there is no terminal."""
    from labs.engine.views.pause import Pause

    return Pause()


def make_questions(options: Options) -> Asker:
    """What asks for predictions; UsageError where there is no terminal."""
    from labs.engine.views.question import Questions

    return Questions(has_titles=terminal_stream(options).isatty())


def predicting(labs: Sequence[Scenario], asker: Asker, views: Sequence[View]) -> View:
    """What asks before the steps of labs, and tells the views all that happens."""
    from labs.engine.predictor import Predictor
    from labs.engine.rehearsal import rehearse_steps

    named = {lab.name: lab for lab in labs}

    def plan(run: RunStarted) -> Sequence[StepStarted]:
        return rehearse_steps(named[run.lab], run.seed, run.language)

    return Predictor(asker, plan, functools.partial(show, views))


def make_terminal_view(options: Options) -> View:
    """The terminal view; on standard error where a document goes to standard output."""
    if options.picture:
        from labs.engine.views.picture import PictureView

        return PictureView(terminal_stream(options))
    from labs.engine.views.terminal import TerminalView

    return TerminalView(terminal_stream(options))


def terminal_stream(options: Options) -> TextIO:
    """Where the terminal view writes."""
    return sys.stderr if options.takes_output else standard_output()


def plan_status(status: ExitStatus) -> ExitStatus:
    """The status of a plan: what the fake did otherwise than a kernel, or not, says nothing."""
    of_the_fake = (ExitStatus.DIFFERS, ExitStatus.CANNOT_RUN)
    return ExitStatus.PASSED if status in of_the_fake else status


def plan_only(view: View) -> View:
    """A view that is told what would be done, and nothing of what came of it."""

    def show_plan(event: Event) -> None:
        match event:
            case RunStarted():
                view(replace(event, backend=PLAN))
            case StepEnded() | Concluded():
                pass
            case RunEnded():
                view(replace(event, status=plan_status(ExitStatus(event.status))))
            case CallMade():
                view(replace(event, result="", errno=""))
            case _:
                view(event)

    return show_plan
