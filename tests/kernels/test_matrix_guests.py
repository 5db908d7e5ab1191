"""The matrix with real guests: labs that differ or are deadly, and a matrix that is ended."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from functools import partial
from signal import SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING, Any

import pytest

from tests.endings import (
    INTERRUPTED,
    Course,
    Trial,
    Trials,
    check_killed,
    interrupted,
    killed,
)
from tests.support import Finished, copy_tree, look, new_token, open_terminal, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.kernels, pytest.mark.namespaces]

AT_A_TIME = 2
KILLS = 12
MOMENTS = 6
CLOSING = "1 lab on 3 kernels in "

# Labs of one step or two each, for a tree of their own.
DIFFERING = """
import os
from labs.engine.script import OK, Run, lab

@lab("adiffering", title="What a release decides")
def adiffering(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice listens", expect=OK, why="?"):
        alice.listen(8080)
    with run.step("Alice listens twice on old kernels", expect=OK, why="?"):
        alice.listen(8080 if os.uname().release.startswith("5.") else 8081)
"""
# Process 1 of a guest is its end: a panic.
DEADLY = """
import os
from labs.engine.script import OK, Run, lab

@lab("bdeadly", title="Its script ends process 1")
def bdeadly(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice listens", expect=OK, why="?"):
        alice.listen(8080)
        if os.getpid() == 1 and os.uname().release.startswith("6.1."):
            os._exit(7)
"""
# Ends the process that runs a column, on the host alone.
LOSING = DEADLY.replace("bdeadly", "clost").replace(
    'os.getpid() == 1 and os.uname().release.startswith("6.1.")', "os.getpid() != 1"
)
PLAIN = DEADLY.partition("        if os")[0].replace("bdeadly", "dplain")
LABS = {"adiffering": DIFFERING, "bdeadly": DEADLY, "clost": LOSING, "dplain": PLAIN}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def odd_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that has the labs above and no others."""
    folder = copy_tree(tmp_path_factory.mktemp("odd"))
    for lab in (folder / "labs").glob("*/lab.py"):
        shutil.rmtree(lab.parent)
    for name, text in LABS.items():
        (folder / "labs" / name).mkdir()
        (folder / "labs" / name / "__init__.py").touch()
        (folder / "labs" / name / "lab.py").write_text(text)
    return folder


def matrix(folder: Path, *arguments: str, cache: Path | None = None) -> Finished:
    """Run the command on 80 columns; `cache` is where fetched kernels are looked for."""
    changes = {"XDG_CACHE_HOME": str(cache)} if cache else {}
    prefix = ("env", "COLUMNS=80", *(f"{name}={value}" for name, value in changes.items()))
    return run("kernel.matrix", *arguments, folder=folder, prefix=prefix)


def read(path: Path) -> dict[tuple[str, str], Any]:
    """The runs of a document, by kernel and lab."""
    return {(run["kernel"], run["lab"]): run for run in json.loads(path.read_text())["runs"]}


def test_a_lab_that_differs_is_told_with_both_outcomes(odd_tree: Path, tmp_path: Path) -> None:
    chosen = ("--kernels", "5.10,6.1,7.2", "--labs", "adiffering")
    done = matrix(odd_tree, *chosen, "--json", str(tmp_path / "m.json"))
    assert done.status == 3, done.text
    assert "2  Alice listens twice on old kernels" in done.output
    assert "5.10      EADDRINUSE from bind()" in done.output
    assert "6.1, 7.2  OK" in done.output
    assert "1  Alice listens\n" not in done.output
    assert done.output.endswith("s: 2 pass, 1 differs\n")
    assert max(map(len, done.output.splitlines())) <= 80
    runs = read(tmp_path / "m.json")
    assert {kernel: run["status"] for (kernel, _), run in runs.items()} == {
        "5.10": 3,
        "6.1": 0,
        "7.2": 0,
    }
    # One boot serves all labs of a kernel, and each record is of the kernel that it names.
    for (kernel, _), each in runs.items():
        assert each["record"]["kernel"].startswith(f"{kernel}.")
        assert each["record"]["machine"] == "uml"


def test_a_guest_that_dies_in_a_lab_is_booted_anew(odd_tree: Path, tmp_path: Path) -> None:
    chosen = ("--kernels", "6.1,7.2", "--labs", "bdeadly,dplain")
    done = matrix(odd_tree, *chosen, "--json", str(tmp_path / "m.json"))
    assert done.status == 70, done.text
    statuses = {key: run["status"] for key, run in read(tmp_path / "m.json").items()}
    assert statuses == {
        ("6.1", "bdeadly"): 70,
        ("6.1", "dplain"): 0,
        ("7.2", "bdeadly"): 0,
        ("7.2", "dplain"): 0,
    }
    assert "bdeadly on 6.1\n    the kernel 6.1 has died." in done.output
    assert "Attempted to kill init" in done.output


def test_a_process_that_ends_leaves_no_pass(odd_tree: Path, tmp_path: Path) -> None:
    chosen = ("--kernels", "host,7.2", "--labs", "clost,dplain")
    done = matrix(odd_tree, *chosen, "--json", str(tmp_path / "m.json"))
    assert done.status == 70, done.text
    assert {key: run["status"] for key, run in read(tmp_path / "m.json").items()} == {
        ("host", "clost"): 70,
        ("host", "dplain"): 70,
        ("7.2", "clost"): 0,
        ("7.2", "dplain"): 0,
    }
    assert "every lab on host\n    The process that ran the labs has ended." in done.output


def test_an_earlier_matrix_tells_what_has_changed(odd_tree: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    assert matrix(odd_tree, "--kernels", "6.1,7.2", "--labs", "dplain", "--json", "-").status == 0
    all_of_it = ("--kernels", "6.1,7.2", "--labs", "adiffering,dplain")
    assert matrix(odd_tree, *all_of_it, "--json", str(earlier)).status == 0
    same = matrix(odd_tree, *all_of_it, "--against", str(earlier))
    assert (same.status, "Nothing changed since" in same.output) == (0, True)
    less = matrix(odd_tree, "--kernels", "7.2", "--labs", "dplain", "--against", str(earlier))
    assert less.status == 3
    for missing in ("the kernel 6.1", "the lab adiffering"):
        assert f"{missing}\n    was there, is missing\n" in less.output
    more = matrix(
        odd_tree,
        "--kernels",
        "5.10,6.1,7.2",
        "--labs",
        "adiffering,dplain",
        "--against",
        str(earlier),
    )
    assert more.status == 3  # for 5.10 differs from what is expected
    assert "Nothing changed since" in more.output
    assert "not in it, and no change: the kernel 5.10" in more.output


def test_the_document_goes_to_standard_output_alone(odd_tree: Path) -> None:
    done = matrix(odd_tree, "--kernels", "7.2", "--labs", "dplain", "--json", "-")
    assert done.status == 0
    assert json.loads(done.output)["runs"][0]["record"]["status"] == 0
    assert "1 lab on 1 kernel in " in done.errors


def test_a_kernel_that_was_not_fetched_is_a_column(tree: Path, tmp_path: Path) -> None:
    chosen = ("--kernels", "host,6.1", "--labs", "euid")
    done = matrix(tree, *chosen, "--json", str(tmp_path / "m.json"), cache=tmp_path)
    assert done.status == 125, done.text
    runs = read(tmp_path / "m.json")
    assert runs["host", "euid"]["status"] == 0
    assert runs["6.1", "euid"]["record"] is None
    assert "Kernel 6.1 was not fetched.\n      invoke kernel.fetch 6.1\n" in done.output


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_any_number_of_jobs_gives_the_same(jobs: str, odd_tree: Path) -> None:
    done = matrix(odd_tree, "--kernels", "5.10,6.1,6.12,7.2", "--labs", "dplain", "--jobs", jobs)
    assert done.status == 0, done.text
    assert done.output.endswith("s: 4 pass\n")
    if jobs == "1":
        starts = [line for line in done.errors.splitlines() if " 1/1 " in line or " 1 pass" in line]
        assert [line.partition(":")[0] for line in starts] == [
            name for name in ("5.10", "6.1", "6.12", "7.2") for _ in range(2)
        ]


def test_a_terminal_shows_how_far_it_is(odd_tree: Path) -> None:
    arguments = ("kernel.matrix", "--kernels", "6.1,7.2", "--labs", "dplain")
    with open_terminal(*arguments, token=new_token(), folder=odd_tree) as terminal:
        terminal.read_until("1/1 dplain")
        terminal.read_until("2 kernels in .* 2 pass")
        assert terminal.wait() == 0


# --- endings ------------------------------------------------------------------------------


@dataclass
class MatrixTrial(Trial):
    """A matrix of the host and two guests that is to be ended."""

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = ("--kernels", "host,6.1,7.2", "--labs", "euid", "--jobs", "3")
        self.arguments = ("kernel.matrix", *chosen, "--json", str(self.record))


@pytest.fixture(scope="module")
def course(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("course")
    return Trials(partial(MatrixTrial, tree), folder, AT_A_TIME).measure()


def test_guests_that_live_are_seen(tree: Path, tmp_path: Path) -> None:
    """What the other tests find nothing of would be found; and Ctrl-C on the terminal ends it."""
    trial = MatrixTrial(tree, tmp_path)
    with open_terminal(*trial.arguments, token=trial.token, folder=tree) as terminal:
        deadline = time.monotonic() + 20
        linux: list[str] = []
        while len(linux) < 2 and time.monotonic() < deadline:
            terminal.read(0.01)
            seen = look(trial.token, trial.folders).beyond(trial.before).get("processes", [])
            linux = [name for name in seen if name.split()[1].startswith("linux")]
        assert len(linux) >= 2
        terminal.type("\x03")
        assert terminal.wait() == INTERRUPTED
    assert "Traceback" not in terminal.output
    assert CLOSING not in terminal.output
    assert trial.wait_for_nothing() == {}


def test_sigkill_leaves_no_guest(tree: Path, tmp_path: Path, course: Course) -> None:
    trials = Trials(partial(MatrixTrial, tree), tmp_path, AT_A_TIME)
    check_killed(trials.end(killed(course), KILLS))


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_leaves_no_guest(
    number: Signals, tree: Path, tmp_path: Path, course: Course
) -> None:
    trials = Trials(partial(MatrixTrial, tree), tmp_path, AT_A_TIME)
    endings = trials.end(interrupted(course, number), MOMENTS)
    assert [ending.left for ending in endings if ending.left] == []
    for ending in endings:
        assert "Traceback" not in ending.text, ending.text
        assert "Exception ignored" not in ending.text, ending.text
        allowed = (0, INTERRUPTED) if CLOSING in ending.text else (INTERRUPTED,)
        assert ending.status in allowed, ending.text
