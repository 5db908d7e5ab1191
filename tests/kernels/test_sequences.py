"""Sequences of calls against kernels that have other rules, inside guests."""

from pathlib import Path

import pytest

from labs.engine.errors import ExitStatus
from labs.engine.kernels.catalogue import choose_known, find_kernel
from labs.engine.kernels.column import Column
from labs.engine.rules.rulebook import read_version, rules_of
from labs.engine.verification.sequences import SEED, Search, examine, open_witness, search, shorten
from tests.mutants import mutants

pytestmark = [pytest.mark.kernels, pytest.mark.alike]

COUNT = 2_000
KERNEL = "6.1"
NAMES = [known.name for known in choose_known("uml")]


@pytest.mark.parametrize("name", NAMES)
def test_each_kernel_agrees_with_its_rules(name: str, tmp_path: Path) -> None:
    found = search(Column(name, find_kernel(name)), Search(COUNT, SEED, tmp_path))
    assert [mismatch.cell for mismatch in found.mismatches] == []
    assert (found.status, found.cells) == (ExitStatus.PASSED, COUNT)


def test_a_rule_that_is_wrong_is_found_and_shown_by_a_short_sequence(tmp_path: Path) -> None:
    with open_witness(Column(KERNEL, find_kernel(KERNEL))) as (release, witness):
        found = dict(mutants(rules_of(read_version(release))))
        wrong = found["tcp_shares with both-reuseport inverted"]
        wanted = Search(300, SEED, tmp_path)
        cells, mismatches = examine(witness, wrong, wanted.count, wanted.seed)
        shortest = shorten(witness, wrong, wanted, cells, mismatches)
        assert len(shortest.cell.calls) <= 4, [*shortest.lines()]
