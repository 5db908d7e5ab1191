"""A class without engines: who is in it, what is kept of it, and what its controller decides."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from labs.engine.catalogue import find_labs
from labs.engine.classes.classroom import ClassOptions, run_class
from labs.engine.classes.cluster import Assignment
from labs.engine.classes.controller import Controller, Limits
from labs.engine.classes.fake import FakeCluster
from labs.engine.classes.folder import MANIFEST, RESULTS, Manifest, open_folder
from labs.engine.classes.result import NO_RESULT, Outcome, Result, read_delivery
from labs.engine.classes.roster import LONGEST_NAME, Learner, read_roster
from labs.engine.classes.table import Table
from labs.engine.errors import CannotRun, ExitStatus, UsageError
from tests.cluster_contract import LAB, ClusterContract

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from labs.engine.classes.folder import Folder

NAMES = ("Ada Lovelace", "李雷", "../../etc/passwd", "o'Brien", "AUX", "ada lovelace")
LEARNERS = [Learner(name) for name in NAMES]
MANIFEST_OF_NAMES = Manifest(LAB, NAMES)


# --- the roster ---------------------------------------------------------------------------


@pytest.fixture
def roster(tmp_path: Path) -> Callable[[str | bytes], str]:
    def write(content: str | bytes) -> str:
        path = tmp_path / "roster"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_a_roster_has_a_name_a_line(roster: Callable[[str | bytes], str]) -> None:
    file = roster("\ufeff# class 7\r\n\r\n  Ada   Lovelace \n李雷\n\n#Bob\n")
    assert [learner.name for learner in read_roster(file)] == ["Ada   Lovelace", "李雷"]


def test_a_seed_is_the_names_own() -> None:
    assert Learner("Ada Lovelace").seed == 508_752_434_711
    seeds = {Learner(f"learner {number}").seed for number in range(5_000)}
    assert len(seeds) == 5_000
    assert max(seeds) < 2**53, "JSON's readers count no further"


def test_one_name_in_two_forms_is_one_learner(roster: Callable[[str | bytes], str]) -> None:
    with pytest.raises(UsageError, match="twice, in the lines 1 and 2"):
        read_roster(roster("Zo\u00eb\nZoe\u0308\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no learner"),
        (b"\n# nobody\n", "names no learner"),
        (b"Ada\nBob\n Ada \n", "'Ada' twice, in the lines 1 and 3"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
        (b"Ada\x1b[31m\n", "line 1: .* cannot be seen"),
        (b"Ada\tLovelace\n", "line 1: .* cannot be seen"),
        ("Ada\u2028Bob".encode(), "line 1: .* cannot be seen"),
        ("\u202eadA".encode(), "line 1: .* cannot be seen"),
        (b"--\n", "neither a letter nor a digit"),
        (b"=1+1\n", "begins with =, as a formula does"),
        (b"a" * (LONGEST_NAME + 1), f"more than {LONGEST_NAME} characters"),
        (b"\n".join(b"learner %d" % number for number in range(10_001)), "10001 learners"),
    ],
)
def test_what_is_no_roster_says_why(
    content: bytes, message: str, roster: Callable[[str | bytes], str]
) -> None:
    with pytest.raises(UsageError, match=message):
        read_roster(roster(content))


def test_a_roster_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_roster(str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="Is a directory"):
        read_roster(str(tmp_path))


# --- the contract, and what a controller makes of it --------------------------------------


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster("one", "two", "three")


class TestFakeCluster(ClusterContract):
    """The fake keeps the contract."""


class Trial:
    """A class on a fake cluster."""

    def __init__(self, cluster: FakeCluster, jobs: int = 3, seconds: float = 30.0) -> None:
        self.cluster = cluster
        self.notices: list[str] = []
        self.controller = Controller(
            cluster,
            Limits(jobs, seconds),
            lambda text, _hint: self.notices.append(text),
            lambda: cluster.now,
        )

    def run(self, learners: Sequence[Learner] = LEARNERS) -> dict[str, Result]:
        """Run it to its end; each learner has exactly one result."""
        results = [*self.controller.run(LAB, learners)]
        assert sorted(result.learner for result in results) == sorted(one.name for one in learners)
        return {result.learner: result for result in results}


def test_no_more_run_at_once_than_are_allowed(cluster: FakeCluster) -> None:
    running = Trial(cluster, jobs=2).controller.run(LAB, LEARNERS)
    for number, _ in enumerate(running, 1):
        assert len(cluster.started) <= number + 1


def test_a_lost_nodes_learners_are_sent_again(cluster: FakeCluster) -> None:
    trial = Trial(cluster)
    results: dict[str, Result] = {}
    for result in trial.controller.run(LAB, LEARNERS):
        if not results:
            cluster.kill("two")
        results[result.learner] = result
    assert {*results} == {*NAMES}
    assert all(result.outcome for result in results.values())
    assert [*results.values()].count(results[NAMES[1]]) == 1
    assert results[NAMES[1]].attempts == 2
    assert trial.notices == [f"{NAMES[1]} is sent again: two is down."]


def test_what_a_silent_node_keeps_is_sent_again_when_its_time_is_over(
    cluster: FakeCluster,
) -> None:
    cluster.silence("two")
    trial = Trial(cluster, seconds=30)
    results = trial.run(LEARNERS[:2])
    assert all(result.outcome for result in results.values())
    assert trial.notices == [f"{NAMES[1]} is sent again: no result within 30 seconds."]
    assert 30 <= cluster.now < 32


def test_attempts_come_to_an_end() -> None:
    cluster = FakeCluster("one")
    cluster.silence("one")
    (result,) = Trial(cluster, seconds=10).run(LEARNERS[:1]).values()
    assert result.outcome is None
    assert result.verdict == NO_RESULT
    assert result.status is ExitStatus.FAILED
    assert result.attempts == len(cluster.started) == 3
    assert result.error == "no result within 10 seconds."


def test_what_is_told_twice_is_counted_once() -> None:
    results = Trial(FakeCluster("one", "two", twice=True)).run()
    assert all(result.attempts == 1 for result in results.values())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 4}', "Killed", "[" * 100_000])
def test_what_is_no_result_is_sent_again(text: str, cluster: FakeCluster) -> None:
    trial = Trial(cluster)
    cluster.print_next(text)
    (result,) = trial.run(LEARNERS[:1]).values()
    assert result.outcome
    assert result.attempts == 2
    assert "what its container printed is no result" in trial.notices[0]


def test_a_node_without_the_image_is_left_out() -> None:
    trial = Trial(FakeCluster("one", "two", "three", lacking=["two"]))
    results = trial.run()
    assert {result.node for result in results.values()} == {"one", "three"}
    assert all(result.attempts == 1 for result in results.values()), "that was no attempt"
    assert trial.notices == ["two is left out. It has no image."]


def test_where_no_node_has_the_image_nothing_can_run() -> None:
    trial = Trial(FakeCluster("one", "two", lacking=["one", "two"]))
    with pytest.raises(CannotRun, match="no image") as caught:
        trial.run()
    assert caught.value.hint == "docker load"


# --- results ------------------------------------------------------------------------------


def make_result(learner: str) -> Result:
    (result,) = Trial(FakeCluster()).run([Learner(learner)]).values()
    return replace(result, seconds=1.25)


def test_a_result_of_another_assignment_is_none() -> None:
    result = make_result("Ada")
    assert result.outcome
    text = json.dumps(result.outcome.to_json())
    for assignment in (assignment_of("Bob"), replace(assignment_of("Ada"), lab="fork")):
        with pytest.raises(ValueError, match="another assignment"):
            read_delivery(text, assignment)
    assert read_delivery(text, assignment_of("Ada")) == result.outcome


def assignment_of(name: str) -> Assignment:
    return Assignment(LAB, Learner(name).seed)


def test_a_folder_keeps_results_whatever_the_names(tmp_path: Path) -> None:
    results = {name: make_result(name) for name in NAMES}
    with open_folder(tmp_path / "class", MANIFEST_OF_NAMES, resume=False) as folder:
        for result in results.values():
            folder.keep(result)
        assert folder.read_results(LEARNERS) == results
    files = [*(tmp_path / "class" / RESULTS).iterdir()]
    assert len({path.name.lower() for path in files}) == len(NAMES)
    assert [*tmp_path.iterdir()] == [tmp_path / "class"]


@pytest.fixture
def half(tmp_path: Path) -> Folder:
    """A class of which the first learner has a result."""
    with open_folder(tmp_path, MANIFEST_OF_NAMES, resume=False) as folder:
        folder.keep(make_result(NAMES[0]))
        return folder


def check_refused(folder: Folder, manifest: Manifest, message: str, *, resume: bool) -> None:
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with (
        pytest.raises(UsageError, match=message),
        open_folder(folder.path, manifest, resume=resume) as opened,
    ):
        opened.read_results(LEARNERS)
    assert before == {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def test_results_are_not_written_over(half: Folder) -> None:
    check_refused(half, MANIFEST_OF_NAMES, "has results already", resume=False)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (Manifest("fork", NAMES), "runs the lab euid"),
        (Manifest(LAB, (*NAMES, "Eve")), "other learners: without Eve"),
        (Manifest(LAB, NAMES[1:]), "other learners: with Ada Lovelace"),
        (Manifest(LAB, NAMES, "9.9"), "was run by bindlab"),
    ],
)
def test_another_class_is_refused(
    manifest: Manifest, message: str, half: Folder, *, resume: bool
) -> None:
    check_refused(half, manifest, message, resume=resume)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "lab": 3}'])
def test_a_manifest_that_is_none_is_refused(text: str, half: Folder) -> None:
    (half.path / MANIFEST).write_text(text)
    check_refused(half, MANIFEST_OF_NAMES, "is no class that this version", resume=True)


def test_results_without_a_manifest_are_refused(half: Folder) -> None:
    (half.path / MANIFEST).unlink()
    check_refused(half, MANIFEST_OF_NAMES, "no class.json says of which class", resume=False)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1, "learner": "Bob"}'])
def test_a_result_that_is_none_is_refused(text: str, half: Folder) -> None:
    half.find_file(NAMES[0]).write_text(text)
    check_refused(half, MANIFEST_OF_NAMES, f"is no result of {NAMES[0]}", resume=True)


def test_a_result_of_another_learner_is_refused(half: Folder) -> None:
    half.find_file(NAMES[0]).rename(half.find_file(NAMES[1]))
    check_refused(half, MANIFEST_OF_NAMES, f"is no result of {NAMES[1]}", resume=True)


def test_a_folder_is_one_commands_at_a_time(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path, MANIFEST_OF_NAMES, resume=False),
        pytest.raises(UsageError, match=r"Another class\.run is at work"),
        open_folder(tmp_path, MANIFEST_OF_NAMES, resume=False),
    ):
        pass


def test_there_has_to_be_something_to_resume(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="no class in"),
        open_folder(tmp_path / "typo", MANIFEST_OF_NAMES, resume=True),
    ):
        pass
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_cannot_be_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match="Cannot keep results"),
        open_folder(tmp_path / "file", MANIFEST_OF_NAMES, resume=False),
    ):
        pass


# --- the table ----------------------------------------------------------------------------


def test_a_table_has_a_row_for_everybody(tmp_path: Path) -> None:
    results = (
        make_result("Ada"),
        Result("Bob, the second", None, "two", attempts=3, reason="two is down."),
        Result("李雷", Outcome(ExitStatus.CANNOT_RUN, "It is too old.")),
    )
    table = Table(LAB, results)
    assert table.status is ExitStatus.FAILED
    with open_folder(tmp_path, Manifest(LAB, ("Ada",)), resume=False) as folder:
        folder.write_table(table)
    rows = [*csv.DictReader((tmp_path / "table.csv").read_text().splitlines())]
    assert [row["learner"] for row in rows] == ["Ada", "Bob, the second", "李雷"]
    assert [row["verdict"] for row in rows][1:] == [NO_RESULT, "skipped"]
    assert int(rows[0]["steps"]) >= int(rows[0]["expected"]) > 1
    document = json.loads((tmp_path / "table.json").read_text())
    assert [row["status"] for row in document["rows"]][1:] == [70, 125]
    assert document["rows"][0]["seconds"] == 1.25


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ((ExitStatus.PASSED,), ExitStatus.PASSED),
        ((ExitStatus.PASSED, ExitStatus.CANNOT_RUN), ExitStatus.CANNOT_RUN),
        ((ExitStatus.DIFFERS, ExitStatus.CANNOT_RUN), ExitStatus.DIFFERS),
        ((ExitStatus.DIFFERS, ExitStatus.FAILED, ExitStatus.PASSED), ExitStatus.FAILED),
    ],
)
def test_the_worst_is_the_status_of_all(statuses: Sequence[ExitStatus], status: ExitStatus) -> None:
    results = tuple(Result(str(number), Outcome(each)) for number, each in enumerate(statuses))
    assert Table(LAB, results).status is status


# --- the options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lab": "nothing"}, "There is no lab 'nothing'"),
        ({"jobs": 0}, "--jobs takes a number from 1"),
        ({"jobs": 1_000}, "--jobs takes a number from 1"),
        ({"seconds": 0}, "--seconds takes a number from 1"),
        ({"json": "table.jsonl"}, "one document"),
    ],
)
def test_options_that_make_no_sense_say_so(
    changes: dict[str, object], message: str, roster: Callable[[str | bytes], str]
) -> None:
    options = replace(ClassOptions(roster("Ada\n")), **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        run_class(find_labs(), options)
