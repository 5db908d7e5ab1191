"""However a run is ended, nothing of it is left, and what ended it is said by its exit status."""

import fcntl
import os
import shlex
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest

from tests.endings import (
    INTERRUPTED,
    PROMPT,
    SUMMARY,
    Course,
    Ending,
    Trial,
    Trials,
    check_interrupted,
    check_killed,
    ended_in_a_pause,
    interrupted,
    killed,
    on_terminal,
    press_control_c,
)
from tests.support import (
    INVOKE,
    ROOT,
    TIMEOUT,
    Machine,
    Terminal,
    copy_tree,
    ended,
    environment,
    look,
    look_at_life,
    new_token,
    open_terminal,
    read_name,
    run,
    wait_for_nothing,
    wait_until,
)

pytestmark = pytest.mark.namespaces

AT_A_TIME = 2
KILLS = 100
MOMENTS = 24


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def course(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    return Trials(partial(Trial, tree), tmp_path_factory.mktemp("course"), AT_A_TIME).measure()


@pytest.fixture
def trials(tree: Path, tmp_path: Path) -> Trials:
    return Trials(partial(Trial, tree), tmp_path, AT_A_TIME)


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


def test_sigkill_at_any_moment_leaves_nothing(trials: Trials, course: Course) -> None:
    check_killed(trials.end(killed(course), KILLS))


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_at_any_moment_interrupts(number: Signals, trials: Trials, course: Course) -> None:
    check_interrupted(trials.end(interrupted(course, number), MOMENTS))


def test_a_closed_terminal_interrupts(trials: Trials, course: Course) -> None:
    check_interrupted(trials.end(on_terminal(Terminal.close, course), MOMENTS))


def test_control_c_interrupts(trials: Trials, course: Course) -> None:
    check_interrupted(trials.end(on_terminal(press_control_c, course), MOMENTS))


@pytest.mark.parametrize("reads_errors", [False, True])
def test_a_reader_that_leaves_interrupts(
    reads_errors: bool, tree: Path, course: Course, trials: Trials
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

    check_interrupted(trials.end(leave, MOMENTS // 2), always_early=True)


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


def test_control_c_ends_a_pause(trials: Trials) -> None:
    """Also where it is pressed in the very moment in which the prompt comes."""
    endings = trials.end(ended_in_a_pause, MOMENTS)
    check_interrupted(endings)
    assert not [ending for ending in endings if "observed" in ending.text]


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
