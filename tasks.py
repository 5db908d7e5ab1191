"""bindlab's commands: names, options and help; what they do is in labs/engine."""

import inspect
import sys
from collections.abc import Sequence

# Invoke turns the bytecode cache off; every command would compile all modules anew.
sys.dont_write_bytecode = False

from labs.engine.command import (
    CommandTask,
    check_command_line,
    command,
    exit_on_signals,
    is_dry,
    read_number,
)

exit_on_signals()

from invoke.collection import Collection
from invoke.context import Context

from labs.engine.catalogue import find_labs
from labs.engine.errors import ExitStatus
from labs.engine.options import (
    CHECK_HELP,
    CLASS_HELP,
    EXERCISE_HELP,
    GRADE_HELP,
    IMAGE_HELP,
    KERNEL_HELP,
    LAB_HELP,
    LEARN_HELP,
    MATRIX_HELP,
    NEW_HELP,
    PICTURES_HELP,
    PLAY_HELP,
    REPORT_HELP,
    SHEET_HELP,
    SITE_HELP,
    VERDICTS_HELP,
    VERIFY_HELP,
    WHY_HELP,
)
from labs.engine.script import Lab


def lab_command(name: str, shows: str, labs: Sequence[Lab]) -> CommandTask:
    """Make the task that runs these labs; `shows` is its line in invoke --list."""

    def run(
        context: Context,
        backend: str = "namespaces",
        kernel: str | None = None,
        json: str | None = None,
        junit: str | None = None,
        html: str | None = None,
        seed: str | None = None,
        dry: bool = False,
        picture: bool = False,
        predict: bool = False,
        pause: bool = False,
        lang: str = "en",
    ) -> ExitStatus:
        from labs.engine.runner import Options, run_labs

        plan = dry or is_dry(context)
        number = read_number("seed", seed)
        how = backend, number, plan, pause, json, kernel, lang, predict, junit, html, picture
        return run_labs(labs, Options(*how))

    run.__doc__ = shows
    return command(run, name, LAB_HELP)


def play(
    context: Context,
    lab: str | None = None,
    user: str = "",
    host: str = "",
    seed: str | None = None,
    lang: str = "en",
    new: bool = False,
    command: str | None = None,
    show: bool = False,
    port: str | None = None,
) -> int:
    """Hosts, users and a shell as one of them, to try by hand; more shells join."""
    from labs.engine.play.play import PlayOptions, run_play

    numbers = read_number("seed", seed), read_number("port", port)
    return run_play(find_labs(), PlayOptions(lab, user, host, lang, new, command, show, *numbers))


def learn(
    context: Context,
    lang: str = "en",
    lab: str = "",
    seed: str | None = None,
    web: bool = False,
    port: str | None = None,
) -> ExitStatus:
    """The course on the whole screen: labs, predictions, pictures, exercises."""
    from labs.engine.learn.learn import LearnOptions, run_learn

    number, place = read_number("seed", seed), read_number("port", port)
    return run_learn(find_labs(), LearnOptions(lang, lab, web, place, number))


def verdicts(context: Context, records: str = "") -> ExitStatus:
    """What came of each lab's claim, and the kernels on which it was measured."""
    from labs.engine.verdicts import show_verdicts

    return show_verdicts(find_labs(), records)


def report(context: Context, records: str, html: str | None = None) -> ExitStatus:
    """Make a page to look at of records that were kept."""
    from labs.engine.reporting import write_report

    return write_report(records, html)


def check_content(
    context: Context, labs: str = "", jobs: str | None = None, quick: bool = False
) -> ExitStatus:
    """Check briefs, translations and challenges of labs."""
    from labs.engine.authoring.check import CheckOptions, check_labs

    return check_labs(CheckOptions(labs, read_number("jobs", jobs), quick))


def new(context: Context, name: str, challenge: str = "") -> ExitStatus:
    """Begin a lab, or another challenge of one."""
    from labs.engine.authoring.new import make_new

    return make_new(name, challenge)


def doctor(context: Context) -> ExitStatus:
    """What works on this machine, and what is still missing for the rest."""
    from labs.engine.doctor import examine

    return examine()


def test(context: Context, tier: str = "") -> ExitStatus:
    """Run the tests, all tiers or one (unit, namespaces, docker, kernels)."""
    from labs.engine.chores import run_tests

    return run_tests(tier)


def lint(context: Context) -> ExitStatus:
    """Check style and types (ruff, mypy)."""
    from labs.engine.chores import run_linters

    return run_linters()


def bench(context: Context, quick: bool = False) -> ExitStatus:
    """Measure speed as ratios, both sides in the same run."""
    from labs.engine.bench import run_benchmarks

    return run_benchmarks(quick=quick)


def build(
    context: Context, only: str = "", bootstrap: bool = False, mirror: str = ""
) -> ExitStatus:
    """Build the images of the docker backend and of compose.yaml."""
    from labs.engine.building import BuildOptions, build_images

    return build_images(BuildOptions(only, bootstrap, mirror))


def list_known(context: Context) -> ExitStatus:
    """Show the kernels that are known, fetched and usable here."""
    from labs.engine.kernels.listing import list_kernels

    return list_kernels()


def fetch(context: Context, names: str, mirror: str = "") -> ExitStatus:
    """Fetch kernels from Debian's packages, for --kernel."""
    from labs.engine.kernels.fetch import fetch_kernels

    return fetch_kernels(names, mirror)


def matrix(
    context: Context,
    kernels: str = "",
    labs: str = "",
    jobs: str | None = None,
    json: str | None = None,
    html: str | None = None,
    against: str | None = None,
) -> ExitStatus:
    """Run every lab on every kernel, this one's included, and show where they differ."""
    from labs.engine.kernels.matrix import MatrixOptions, run_matrix

    number = read_number("jobs", jobs)
    return run_matrix(find_labs(), MatrixOptions(kernels, labs, number, json, against, html))


def run_class_of(
    context: Context,
    learners: str,
    lab: str = "euid",
    folder: str = "",
    resume: bool = False,
    jobs: str | None = None,
    seconds: str | None = None,
    json: str | None = None,
    html: str | None = None,
) -> ExitStatus:
    """Run a lab for each learner of a class, on one Docker engine or a swarm of them."""
    from labs.engine.classes.classroom import ClassOptions, run_class

    numbers = read_number("jobs", jobs), read_number("seconds", seconds)
    options = ClassOptions(learners, lab, folder, resume, *numbers, json, html)
    return run_class(find_labs(), options)


def verify(
    context: Context,
    kernel: str = "",
    json: str | None = None,
    sequences: str | None = None,
    seed: str | None = None,
    keep: str = "",
    replay: str | None = None,
) -> ExitStatus:
    """Hold the model of the bind rules against real kernels: its table, or sequences of calls."""
    from labs.engine.verification.verify import VerifyOptions, verify_rules

    numbers = read_number("sequences", sequences), read_number("seed", seed)
    return verify_rules(VerifyOptions(kernel, json, *numbers, keep, replay))


def why(
    context: Context,
    port: str,
    user: str | None = None,
    address: str = "0.0.0.0",
    udp: bool = False,
    reuseaddr: bool = False,
    reuseport: bool = False,
    v6only: bool = False,
    device: str = "",
    capability: bool = False,
    netns: str | None = None,
    json: str | None = None,
    lang: str = "en",
) -> ExitStatus:
    """Who is on a port of this machine, and why a bind() there is refused; changes nothing."""
    from labs.engine.port.question import Wish
    from labs.engine.port.why import explain_port

    options = reuseaddr, reuseport, v6only, device, capability, netns
    return explain_port(Wish(port, user, address, udp, *options), json, lang)


def start(
    context: Context, name: str, folder: str = "", seed: str | None = None, lang: str = "en"
) -> ExitStatus:
    """Begin an exercise: its task, and a program to begin with in a work folder of yours."""
    from labs.engine.exercises.course import start_exercise

    return start_exercise(name, folder, read_number("seed", seed), lang)


def check(
    context: Context,
    name: str,
    kernel: str | None = None,
    json: str | None = None,
    junit: str | None = None,
    html: str | None = None,
    lang: str = "en",
) -> ExitStatus:
    """Run the program of an exercise, and judge it by what it does."""
    from labs.engine.exercises.check import CheckOptions, check_exercise

    return check_exercise(name, CheckOptions(kernel, json, junit, html, lang))


def watch(context: Context, name: str, lang: str = "en") -> ExitStatus:
    """Check the program of an exercise at every save, until it passes."""
    from labs.engine.exercises.watching import watch_exercise

    return watch_exercise(name, lang)


def grade(
    context: Context,
    folder: str,
    name: str = "",
    output: str = "",
    jobs: str | None = None,
    seed: str | None = None,
    junit: str | None = None,
    lang: str = "en",
) -> ExitStatus:
    """Check a folder of submissions side by side, and make the table."""
    from labs.engine.exercises.grading import GradeOptions, grade_folder

    numbers = read_number("jobs", jobs), read_number("seed", seed)
    return grade_folder(GradeOptions(folder, name, output, *numbers, junit, lang))


def hint(context: Context, name: str, lang: str = "en") -> ExitStatus:
    """Show the next hint of an exercise."""
    from labs.engine.exercises.course import give_hint

    return give_hint(name, lang)


def solution(context: Context, name: str, lang: str = "en") -> ExitStatus:
    """Show a program that solves an exercise, once yours does."""
    from labs.engine.exercises.course import show_solution

    return show_solution(name, lang)


def reset(context: Context, name: str, lang: str = "en") -> ExitStatus:
    """Begin an exercise anew; your program is kept beside the new one."""
    from labs.engine.exercises.course import reset_exercise

    return reset_exercise(name, lang)


def progress(context: Context, lang: str = "en") -> ExitStatus:
    """Show all exercises, and where you stand with each."""
    from labs.engine.exercises.course import show_progress

    return show_progress(lang)


def clean(context: Context) -> ExitStatus:
    """Remove what runs that are over have left on the Docker engine."""
    from labs.engine.chores import clean_engine

    return clean_engine()


def build_docs(context: Context, output: str = "") -> ExitStatus:
    """Build the docs as a site, to be read without a network."""
    from labs.engine.site.building import build_site

    return build_site(output)


def renew(context: Context, output: str = "") -> ExitStatus:
    """Run the labs, and renew the gallery of docs."""
    from labs.engine.site.renewing import renew_pictures

    return renew_pictures(find_labs(), output)


def renew_sheet(context: Context, output: str = "") -> ExitStatus:
    """Write the rules of bind() anew, as the model has them, for docs."""
    from labs.engine.site.renewing import renew_rules

    return renew_rules(output)


def make_namespace() -> Collection:
    """All commands, labs under `lab`."""
    labs = find_labs()
    of_labs = Collection("lab", auto_dash_names=False)
    for lab in labs:
        of_labs.add_task(lab_command(lab.name, lab.title, [lab]))
    every = lab_command("all", "Run every lab, in the order of the course", labs)
    of_labs.add_task(every, default=True)
    of_labs.add_task(command(check_content, "check", CHECK_HELP))
    of_labs.add_task(command(new, "new", NEW_HELP))
    of_labs.add_task(command(verdicts, "verdicts", VERDICTS_HELP))
    of_labs.add_task(command(report, "report", REPORT_HELP))
    of_images = Collection("image")
    of_images.add_task(command(build, "build", IMAGE_HELP))
    of_kernels = Collection("kernel")
    of_kernels.add_task(command(list_known, "list"))
    of_kernels.add_task(command(fetch, "fetch", KERNEL_HELP))
    of_kernels.add_task(command(matrix, "matrix", MATRIX_HELP))
    of_exercises = Collection("exercise")
    for body in (start, check, watch, hint, solution, reset, progress):
        options = {
            name: text
            for name, text in EXERCISE_HELP.items()
            if name in inspect.signature(body).parameters
        }
        of_exercises.add_task(command(body, body.__name__, options))
    of_exercises.add_task(command(grade, "grade", GRADE_HELP))
    of_classes = Collection("class")
    of_classes.add_task(command(run_class_of, "run", CLASS_HELP))
    of_rules = Collection("rules")
    of_rules.add_task(command(verify, "verify", VERIFY_HELP))
    of_ports = Collection("port")
    of_ports.add_task(command(why, "why", WHY_HELP))
    of_docs = Collection("docs")
    of_docs.add_task(command(build_docs, "build", SITE_HELP))
    of_docs.add_task(command(renew, "pictures", PICTURES_HELP))
    of_docs.add_task(command(renew_sheet, "rules", SHEET_HELP))
    tier = {"tier": "run the tests of this tier alone: unit, namespaces, docker or kernels"}
    return Collection(
        of_labs,
        of_images,
        of_kernels,
        of_exercises,
        of_classes,
        of_rules,
        of_ports,
        of_docs,
        command(play, "play", PLAY_HELP),
        command(learn, "learn", LEARN_HELP),
        command(clean, "clean"),
        command(doctor, "doctor"),
        command(test, "test", tier),
        command(lint, "lint"),
        command(bench, "bench", {"quick": "leave out what takes minutes"}),
    )


namespace = make_namespace()
check_command_line(namespace)
