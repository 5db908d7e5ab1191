"""The page of the rules: it is what the model says today, and holds for every kernel."""

import itertools
from pathlib import Path

import pytest

from labs.engine.kernels.catalogue import KNOWN
from labs.engine.rules.calls import Listen
from labs.engine.rules.rulebook import RULES, read_version, rules_of
from labs.engine.site.renewing import SHEETS
from labs.engine.site.sheet import (
    NEWCOMERS,
    OCCUPANTS,
    SPOTS,
    Newcomer,
    Sheet,
    answer_newcomer,
    pair_of_addresses,
    pair_on_one_address,
)
from labs.engine.verification import makers, table
from labs.engine.verification.cell import ALICE, BOB, predict
from tests.support import ROOT, run

VERSIONS = sorted({read_version(kernel.version) for kernel in KNOWN} | {(6, 18), (7, 3)})
PAIRS = [
    (occupant, theirs, newcomer)
    for occupant in OCCUPANTS
    for theirs in makers.ALL_OPTIONS
    for newcomer in NEWCOMERS
]


@pytest.mark.parametrize(("language", "name"), SHEETS.items())
def test_the_page_is_current(language: str, name: str) -> None:
    kept = (ROOT / "docs" / name).read_text()
    assert kept == Sheet(language).write(), f"invoke docs.rules renews docs/{name}"


def test_all_that_it_says_is_asked_of_kernels() -> None:
    asked = {cell.about for cell in table.make_table()}
    for occupant, theirs, newcomer in PAIRS:
        for maker in occupant.makers:
            assert pair_on_one_address(maker, theirs, newcomer).about in asked
    for one, other in itertools.product(SPOTS, repeat=2):
        assert pair_of_addresses(one, other).about in asked


@pytest.mark.parametrize("version", VERSIONS)
def test_it_holds_for_every_kernel_and_every_way_to_be_there(version: tuple[int, ...]) -> None:
    for occupant, theirs, newcomer in PAIRS:
        said = answer_newcomer(pair_on_one_address(occupant.makers[0], theirs, newcomer)).errno
        for maker in occupant.makers:
            cell = pair_on_one_address(maker, theirs, newcomer)
            assert answer_newcomer(cell, version).errno == said, cell.about
    for one, other in itertools.product(SPOTS, repeat=2):
        cell = pair_of_addresses(one, other)
        assert answer_newcomer(cell, version).errno == answer_newcomer(cell).errno, cell.about


def test_a_newcomer_without_a_word_on_the_owner_may_be_anybody() -> None:
    for occupant, theirs, newcomer in PAIRS:
        if "owner" not in newcomer.head:
            answers = {
                answer_newcomer(
                    pair_on_one_address(
                        occupant.makers[0], theirs, Newcomer("", newcomer.options, user)
                    )
                ).errno
                for user in (ALICE, BOB)
            }
            assert len(answers) == 1


def test_one_of_two_can_listen() -> None:
    cell = pair_on_one_address(makers.BOUND_TCP, makers.RA, NEWCOMERS[1])
    listens = [
        answer.errno
        for call, answer in zip(cell.calls, predict(cell, rules_of((6, 18))), strict=True)
        if isinstance(call, Listen)
    ]
    assert listens == ["", "EADDRINUSE"]


def test_each_rule_stands_there_once() -> None:
    headings = [line[4:] for line in Sheet("en").write().splitlines() if line.startswith("### ")]
    assert sorted(headings) == sorted(rule.name for rule in RULES)


def test_the_command_writes_both_pages(tmp_path: Path) -> None:
    done = run("docs.rules", "--output", str(tmp_path / "new"))
    assert (done.status, done.errors) == (0, "")
    assert done.output == f"The rules are {tmp_path / 'new' / 'bind.md'}\n"
    assert {path.name for path in (tmp_path / "new").iterdir()} == {*SHEETS.values()}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("docs.rules", "--output", str(tmp_path / "file"))
    assert done.status == 70
    assert "Cannot write to" in done.errors
    assert "Traceback" not in done.errors
