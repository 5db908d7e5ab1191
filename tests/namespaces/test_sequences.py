"""Sequences of calls against this machine's own kernel."""

import json
from pathlib import Path

import pytest

from labs.engine.errors import ExitStatus
from labs.engine.kernels.column import Column
from labs.engine.rules.rulebook import read_version, rules_of
from labs.engine.verification.comparison import find_mismatches
from labs.engine.verification.kept import Origin, keep, read_kept
from labs.engine.verification.sequences import (
    SEED,
    Search,
    examine,
    open_witness,
    replay,
    search,
    shorten,
)
from labs.engine.verification.verify import VerifyOptions, lines, verify_rules
from tests.mutants import mutants

pytestmark = [pytest.mark.namespaces, pytest.mark.alike]

COUNT = 2_000
HOST = Column("host")
# What is dropped or inverted, and the most calls that it takes to show that.
WRONG = {
    "tcp_shares without both-reuseaddr": 6,
    "tcp_shares with both-reuseport inverted": 4,
    "udp_shares without group-found": 7,
    "ipv4_checks without privileged-port": 2,
}


def test_the_kernel_agrees_with_the_rules(tmp_path: Path) -> None:
    found = search(HOST, Search(COUNT, SEED, tmp_path))
    assert [mismatch.cell for mismatch in found.mismatches] == []
    assert (found.status, found.cells) == (ExitStatus.PASSED, COUNT)
    assert found.compared > 4 * COUNT
    assert [*tmp_path.iterdir()] == []
    assert f"2,000 of 2,000 sequences of seed {SEED} agree" in "\n".join(lines(found))


def test_rules_that_are_wrong_are_found_and_shown_by_a_short_sequence(tmp_path: Path) -> None:
    with open_witness(HOST) as (release, witness):
        version = read_version(release)
        found = dict(mutants(rules_of(version)))
        for name, most in WRONG.items():
            wrong = found[name]
            wanted = Search(300, SEED, tmp_path)
            cells, mismatches = examine(witness, wrong, wanted.count, wanted.seed)
            assert mismatches, name
            shortest = shorten(witness, wrong, wanted, cells, mismatches)
            assert len(shortest.cell.calls) <= most, [*shortest.lines()]
            folder = tmp_path / name.replace(" ", "-")
            path = keep(shortest, Origin("host", release, SEED, "2026-11-28"), folder)
            kept = read_kept(str(folder))
            assert len(kept) == 1
            assert [*find_mismatches(kept, witness.ask(kept), wrong)], name
            assert json.loads(path.read_text())["shown"] == [*shortest.lines()]
    # It was the rules that were wrong.
    again = replay(HOST, read_kept(",".join(map(str, tmp_path.iterdir()))))
    assert (again.status, again.cells) == (ExitStatus.PASSED, len(WRONG))


def test_a_kept_sequence_is_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "taken.json"
    calls = [
        *(["socket", name, "AB"[index], "UDP", "AF_INET"] for index, name in enumerate(PAIR)),
        *(["bind", name, "AB"[index], "127.0.0.1", 2000] for index, name in enumerate(PAIR)),
    ]
    path.write_text(json.dumps({"schema": 1, "about": "two on a port", "calls": calls}))
    assert verify_rules(VerifyOptions(replay=str(path))) == ExitStatus.PASSED
    assert "1 of 1 sequences agree, with 2 bind() and listen()" in capsys.readouterr().out


PAIR = ("alice", "bob")
