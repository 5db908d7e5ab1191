"""Every challenge on the real kernel: its solution passes, and each mistake gets its hint."""

import os

import pytest

from labs.engine.authoring.check import SEEDS
from labs.engine.authoring.proof import Case, list_cases, prove
from labs.engine.catalogue import find_challenges

pytestmark = pytest.mark.namespaces


CASES = [case for challenge in find_challenges() for case in list_cases(challenge)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_program_is_judged_as_it_deserves(case: Case, seed: int | None) -> None:
    verdict = prove(case, seed)
    if verdict.obstacle and not os.environ.get("CI"):
        pytest.skip(verdict.obstacle)
    assert (verdict.obstacle, verdict.problem(case)) == ("", "")
