"""However a run is ended, nothing of it is left, and what ended it is said by its exit status.

A moment is a seeded random one; together they are spread over the whole of a run.
"""

import fcntl
import json
import os
import random
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest

from tests.support import (
    INVOKE,
    ROOT,
    TIMEOUT,
    Life,
    Machine,
    Terminal,
    ended,
    environment,
    has_children,
    look,
    look_at_life,
    new_token,
    open_terminal,
    read_name,
    run,
    wait_for_end,
    wait_for_nothing,
    wait_until,
)

pytestmark = pytest.mark.namespaces

SEED = 8080
AT_A_TIME = 2
KILLS = 100
MOMENTS = 24
ATTEMPTS = 8
NO_LIFE = Life()
INTERRUPTED = 130
PROMPT = "Enter goes on, Ctrl-C ends: "
SUMMARY = r"\d+ steps: \d+ as expected\n"


@dataclass(frozen=True)
class Course:
    """How long a run takes: all of it, and from the start of its first child; and its output."""

    whole: float
    in_charge: float
    output: str


@dataclass(frozen=True)
class Ending:
    """How a run ended: while it was still at work? Does its output have the summary?"""

    status: int
    text: str
    was_alive: bool
    left: dict[str, list[str]]


@dataclass
class Trial:
    """One run that is to be ended, in a copy of the tree; nobody else writes to its folders."""

    tree: Path
    folder: Path
    token: str = field(default_factory=new_token)
    life: Life = NO_LIFE
    was_alive: bool = False

    def __post_init__(self) -> None:
        self.folders = (self.tree, self.folder)
        self.record = self.folder / "record.json"
        self.arguments = ("lab.euid", "--json", str(self.record))
        self.variables = environment(self.token, TMPDIR=str(self.folder))
        self.before = look(self.token, self.folders)

    def look_while_it_lives(self, process: subprocess.Popen[bytes]) -> None:
        """Note what is there, right before the end."""
        self.life = look_at_life(self.token)
        self.was_alive = process.poll() is None

    def finish(self, status: int, text: str) -> Ending:
        """See what is left; a record is no remnant, as long as it is whole."""
        if self.record.exists():
            assert json.loads(self.record.read_text())["runs"][0]["status"] == 0
            self.record.unlink()
        left = wait_for_nothing(self.before, self.token, self.folders, self.life)
        return Ending(status, text, self.was_alive, left)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the command consists of."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy2(ROOT / "tasks.py", copy)
    shutil.copytree(ROOT / "labs", copy / "labs")
    return copy


@pytest.fixture(scope="module")
def course(tree: Path) -> Course:
    """The course of a run that nobody disturbs, while as many run as are to be ended at a time."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        courses = list(pool.map(measure, [tree] * 3 * AT_A_TIME))
    return Course(
        statistics.median(course.whole for course in courses),
        statistics.median(course.in_charge for course in courses),
        courses[0].output,
    )


def measure(tree: Path) -> Course:
    """Run the command to its end."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        with start(("lab.euid",), tree, environment(), output.fileno()) as process:
            wait_until(lambda: has_children(process.pid), "the keeper")
            forked = time.monotonic()
            assert process.wait(TIMEOUT) == 0
            over = time.monotonic()
        output.seek(0)
        return Course(over - began, over - forked, output.read().decode())


@contextmanager
def start(
    arguments: tuple[str, ...], tree: Path, variables: dict[str, str], output: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command with its output and its errors going to one descriptor."""
    process = subprocess.Popen(
        [*INVOKE, *arguments],
        cwd=tree,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    with ended(process):
        yield process


def spread(count: int) -> list[float]:
    """Random numbers from 0 to 1, one in each of `count` equal parts."""
    generator = random.Random(SEED)
    return [(part + generator.random()) / count for part in range(count)]


def try_endings(
    end: Callable[[Trial, float], Ending], count: int, tree: Path, folder: Path
) -> list[Ending]:
    """End a run at each of `count` moments, some at a time."""

    def try_one(number: int, moment: float) -> Ending:
        """Where the run was over by then (the machine is less busy now), come earlier."""
        for attempt in range(ATTEMPTS):
            place = folder / f"{number}-{attempt}"
            place.mkdir()
            ending = end(Trial(tree, place), moment * 0.7**attempt)
            if ending.was_alive or ending.left:
                break
        return ending

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(try_one, range(count), spread(count)))


def check(endings: list[Ending], *, always_early: bool = False) -> None:
    """Nothing is left, nothing is a traceback; what did not come to its end is interrupted."""
    assert [ending.left for ending in endings if ending.left] == []
    assert all(ending.was_alive for ending in endings)
    for ending in endings:
        assert "Traceback" not in ending.text
        assert "Exception ignored" not in ending.text
        is_complete = not always_early and " as expected\n" in ending.text
        allowed = (0, INTERRUPTED) if is_complete else (INTERRUPTED,)
        assert ending.status in allowed, ending.text[-500:]


def test_a_run_that_lives_is_seen(tree: Path, tmp_path: Path) -> None:
    """What the other tests find nothing of would be found."""
    trial = Trial(tree, tmp_path)
    with open_terminal("lab.euid", "--pause", token=trial.token, folder=tree) as terminal:
        terminal.read_until(PROMPT)
        seen = look(trial.token, trial.folders).beyond(trial.before)
        names = {process.split()[1] for process in seen["processes"]}
        assert "alice" in names
        assert len(seen["processes"]) >= 5  # with the command, the keeper and two processes 1
        kinds = {namespace.partition(":")[0] for namespace in seen["namespaces"]}
        assert kinds == {"user", "pid", "mnt", "net", "ipc", "uts"}
        life = look_at_life(trial.token)
        without_token = look(new_token(), trial.folders, life).beyond(trial.before)
        command = {f"{terminal.process.pid} {read_name(terminal.process.pid)}"}
        assert set(without_token["processes"]) == set(seen["processes"]) - command
        (trial.folder / "remnant").touch()
        terminal.process.kill()
        assert terminal.wait() == -SIGKILL
        left = {"files": [str(trial.folder / "remnant")]}
        wait_until(lambda: look(trial.token, trial.folders).beyond(trial.before) == left, str(left))


def test_sigkill_at_any_moment_leaves_nothing(tree: Path, course: Course, tmp_path: Path) -> None:
    def kill(trial: Trial, moment: float) -> Ending:
        with start(trial.arguments, tree, trial.variables, subprocess.DEVNULL) as process:
            wait_for_end(process, moment * course.whole)
            trial.look_while_it_lives(process)
            process.kill()
            status = process.wait(TIMEOUT)
            trial.was_alive = status != 0
            return trial.finish(status, "")

    endings = try_endings(kill, KILLS, tree, tmp_path)
    assert [ending.left for ending in endings if ending.left] == []
    assert all(ending.was_alive for ending in endings)
    assert {ending.status for ending in endings} == {-SIGKILL}


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_at_any_moment_interrupts(
    number: Signals, tree: Path, course: Course, tmp_path: Path
) -> None:
    def interrupt(trial: Trial, moment: float) -> Ending:
        with tempfile.TemporaryFile() as output:
            with start(trial.arguments, tree, trial.variables, output.fileno()) as process:
                wait_until(lambda: has_children(process.pid), "tasks.py in charge")
                wait_for_end(process, moment * course.in_charge)
                trial.look_while_it_lives(process)
                process.send_signal(number)
                status = process.wait(TIMEOUT)
            output.seek(0)
            return trial.finish(status, output.read().decode())

    check(try_endings(interrupt, MOMENTS, tree, tmp_path))


def on_terminal(
    end: Callable[[Terminal], None], tree: Path, course: Course
) -> Callable[[Trial, float], Ending]:
    """What ends a run on a terminal at a moment."""

    def end_at(trial: Trial, moment: float) -> Ending:
        terminal = Terminal(trial.arguments, tree, trial.variables)
        with ended(terminal.process):
            wait_until(lambda: has_children(terminal.process.pid), "tasks.py in charge")
            terminal.read_for(moment * course.in_charge)
            trial.look_while_it_lives(terminal.process)
            end(terminal)
            status = terminal.process.wait(TIMEOUT)
            terminal.close()
        return trial.finish(status, terminal.output)

    return end_at


def test_a_closed_terminal_interrupts(tree: Path, course: Course, tmp_path: Path) -> None:
    check(try_endings(on_terminal(Terminal.close, tree, course), MOMENTS, tree, tmp_path))


def test_control_c_interrupts(tree: Path, course: Course, tmp_path: Path) -> None:
    def press(terminal: Terminal) -> None:
        if terminal.process.poll() is None:
            terminal.type("\x03")
        terminal.wait()

    check(try_endings(on_terminal(press, tree, course), MOMENTS, tree, tmp_path))


@pytest.mark.parametrize("reads_errors", [False, True])
def test_a_reader_that_leaves_interrupts(
    reads_errors: bool, tree: Path, course: Course, tmp_path: Path
) -> None:
    """As in `invoke lab.euid | head -1`, or with `2>&1`.

    The pipe takes one page: so much, and no more, can the run get ahead of its reader.
    """

    def leave(trial: Trial, moment: float) -> Ending:
        reader, writer = os.pipe()
        capacity = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1)
        enough = int(moment * 0.9 * (len(course.output.encode()) - capacity))
        assert enough >= 0
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [*INVOKE, *trial.arguments],
                cwd=tree,
                env=trial.variables,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.STDOUT if reads_errors else errors,
            )
            with ended(process):
                os.close(writer)
                read = 0
                while read < enough and (data := os.read(reader, enough - read)):
                    read += len(data)
                trial.look_while_it_lives(process)
                os.close(reader)
                status = process.wait(TIMEOUT)
            errors.seek(0)
            return trial.finish(status, errors.read().decode())

    check(try_endings(leave, MOMENTS // 2, tree, tmp_path), always_early=True)


def test_a_reader_of_the_record_that_leaves_interrupts() -> None:
    command = " ".join(shlex.quote(word) for word in (*INVOKE, "lab.euid", "--json", "-"))
    script = f'{command} | head -c 1; echo " ${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout.decode().split() == ["{", str(INTERRUPTED)]
    assert "Traceback" not in done.stderr.decode()


# --- a pause ------------------------------------------------------------------------------


@pytest.fixture
def token() -> str:
    return new_token()


@pytest.fixture
def before(token: str) -> Machine:
    return look(token)


def test_control_c_ends_a_pause(tree: Path, tmp_path: Path) -> None:
    """Also where it is pressed in the very moment in which the prompt comes."""

    def press(trial: Trial, _: float) -> Ending:
        with open_terminal("lab.euid", "--pause", token=trial.token, folder=tree) as terminal:
            terminal.read_until(PROMPT)
            trial.look_while_it_lives(terminal.process)
            terminal.type("\x03")
            ending = trial.finish(terminal.wait(), terminal.output)
        assert "observed" not in ending.text
        return ending

    check(try_endings(press, MOMENTS, tree, tmp_path))


def test_enter_goes_on_and_one_can_look_around_meanwhile(token: str, before: Machine) -> None:
    with open_terminal("lab.euid", "--pause", token=token) as terminal:
        enter = terminal.read_until(r"look around on server: +(nsenter .*)\n").group(1)
        look_around = [*shlex.split(enter), "--", "cat", "/proc/net/tcp"]
        listener = f"00000000:{8080:04X} 00000000:0000 0A"
        for is_there in (False, True):
            terminal.read_until(PROMPT)
            sockets = subprocess.run(look_around, capture_output=True, text=True, check=True)
            assert (listener in sockets.stdout) is is_there, sockets.stdout
            terminal.type("\n")
        steps = 2
        while terminal.read_until(f"{PROMPT}|{SUMMARY}").group() == PROMPT:
            steps += 1
            terminal.type("\n")
        assert terminal.wait() == 0
    assert f"{steps} steps: {steps} as expected" in terminal.output
    assert wait_for_nothing(before, token) == {}


def test_a_pause_needs_a_terminal() -> None:
    done = run("lab.euid", "--pause")
    assert done.status == 2
    assert done.output == ""
    assert done.errors.count("\n") == 1
    assert "terminal" in done.errors
