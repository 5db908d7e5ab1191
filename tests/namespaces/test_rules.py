"""The rules against this machine's own kernel."""

import pytest

from labs.engine.errors import ExitStatus
from labs.engine.rules.rulebook import read_version, rules_of
from labs.engine.verification.comparison import Comparison, find_mismatches
from labs.engine.verification.sharing import compare_cells
from labs.engine.verification.table import make_table
from labs.engine.verification.verify import Measured, lines, measure_here
from tests.mutants import mutants, survivors


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure_here()


def test_the_rules_are_the_kernels(measured: Measured) -> None:
    rulebook = rules_of(read_version(measured.release))
    assert len(measured.answered) == len(make_table())
    assert compare_cells(make_table(), measured.answered, rulebook) == []


@pytest.mark.alike
def test_the_table_catches_each_rule_that_is_wrong(measured: Measured) -> None:
    assert survivors(measured.release, measured.answered) == []


def test_a_mismatch_is_shown_as_calls(measured: Measured) -> None:
    found = dict(mutants(rules_of(read_version(measured.release))))
    mutant = found["tcp_shares without both-reuseaddr"]
    mismatches = tuple(find_mismatches(make_table(), measured.answered, mutant))
    assert compare_cells(make_table(), measured.answered, mutant) == [*mismatches]
    comparison = Comparison(
        "host", ExitStatus.DIFFERS, measured.release, len(make_table()), 1, 1.0, mismatches
    )
    shown = "\n".join(lines(comparison))
    assert f"{len(make_table()) - len(mismatches):,} of {len(make_table()):,} cells agree" in shown
    assert "alice/64001  setsockopt(3, SOL_SOCKET, SO_REUSEADDR, 1)  = 0" in shown
    assert "bind(4, 127.0.0.1:" in shown
    assert "the model: EADDRINUSE by the rule taken, due to the socket A" in shown
    first = mismatches[0].to_json()
    assert (first["kernel"], first["model"], first["rule"]) == ("OK", "EADDRINUSE", "taken")
