"""Whose run is over, as far as labels, state and age say."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from labs.engine.backends.docker.cleaning import YOUNG, Item, is_over
from labs.engine.backends.docker.labels import (
    CLIENT,
    RUN,
    client_is_gone,
    describe_machine,
    describe_process,
    new_run,
)
from tests.support import describe_ended_process, read_start, wait_until

ELSEWHERE = "0c9d5d4e-0000-0000-0000-000000000000 4026531836 4711 123456"


def make_item(client: str, *, is_running: bool = False, age: float = 0.0) -> Item:
    labels = {RUN: "0123456789ab", CLIENT: client}
    kind = "container" if is_running else "network"
    return Item(kind, "identity", "name", labels, is_running, time.time() - age)


# --- who has made it ----------------------------------------------------------------------


def test_a_process_is_described_by_its_machine_its_pid_and_its_start() -> None:
    boot, namespace, pid, start = describe_process(os.getpid()).split()
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert f"{boot} {namespace}" == describe_machine()
    assert pid == str(os.getpid())
    assert int(start) > 0


def test_a_process_that_is_none_is_not_described() -> None:
    assert describe_process(2**22 + 1) == ""


def test_each_run_has_its_own_labels() -> None:
    first, second = new_run(), new_run()
    assert first.run != second.run
    assert first.client == second.client == describe_process(os.getpid())
    assert first.as_dict() == {RUN: first.run, CLIENT: first.client}


def test_a_process_that_lives_is_not_gone_and_one_that_has_ended_is() -> None:
    assert client_is_gone({CLIENT: describe_process(os.getpid())}) is False
    assert client_is_gone({CLIENT: describe_ended_process()}) is True


def test_a_process_whose_status_nobody_has_read_is_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        wait_until(lambda: read_start(process.pid) < 0, "a zombie")
        assert client_is_gone({CLIENT: describe_process(process.pid)}) is True


def test_a_pid_that_somebody_else_has_now_is_gone() -> None:
    *others, start = describe_process(os.getpid()).split()
    assert client_is_gone({CLIENT: " ".join([*others, str(int(start) - 1)])}) is True


@pytest.mark.parametrize(
    "labels",
    [
        {CLIENT: ELSEWHERE},
        {CLIENT: f"{describe_machine()} 1"},
        {CLIENT: f"{describe_machine()} one 1"},
        {CLIENT: f"{describe_machine()} -1 1"},
        {CLIENT: ""},
        {CLIENT: "nonsense"},
        {},
    ],
)
def test_of_others_and_of_nonsense_nothing_is_known(labels: dict[str, str]) -> None:
    assert client_is_gone(labels) is None


# --- whether it is over -------------------------------------------------------------------


@pytest.mark.parametrize("is_running", [False, True])
@pytest.mark.parametrize("age", [0, 10 * YOUNG])
def test_a_run_of_this_machine_is_over_with_its_process(is_running: bool, age: float) -> None:
    ended, living = describe_ended_process(), describe_process(os.getpid())
    assert is_over([make_item(ended, is_running=is_running, age=age)])
    assert not is_over([make_item(living, is_running=is_running, age=age)])


@pytest.mark.parametrize(
    ("is_running", "age", "expected"),
    [
        (True, 0, False),
        (True, 10 * YOUNG, False),
        (False, 0, False),
        (False, YOUNG / 2, False),
        (False, 10 * YOUNG, True),
    ],
)
def test_a_run_of_another_machine_goes_on_while_it_is_young_or_something_runs(
    is_running: bool, age: float, expected: bool
) -> None:
    assert is_over([make_item(ELSEWHERE, is_running=is_running, age=age)]) is expected


def test_one_container_that_runs_or_is_young_is_enough() -> None:
    old = make_item(ELSEWHERE, age=10 * YOUNG)
    assert not is_over([old, make_item(ELSEWHERE, is_running=True, age=10 * YOUNG)])
    assert not is_over([old, make_item(ELSEWHERE)])
    assert is_over([old, old])
