"""What port.why says, inside guests: kernels that show less, and that have other rules."""

from __future__ import annotations

import pytest

from labs.engine.kernels.boot import one_processor, start
from labs.engine.kernels.catalogue import choose_known, find_kernel

pytestmark = [pytest.mark.kernels, pytest.mark.alike]

NAMES = [known.name for known in choose_known("uml")]
EVERY = 89  # of the table's situations one in so many
DEADLINE = 120.0  # seconds


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_is_what_a_kernel_answers(name: str) -> None:
    """On kernels before 6.8 a socket that is only bound is found by asking all processes."""
    guest = start(find_kernel(name), one_processor(), "tests.kernels.guests.ports")
    try:
        guest.wait_until_ready()
        guest._send({"every": EVERY})
        answer = guest._receive(DEADLINE)
    finally:
        guest.close()
    assert answer["mismatches"] == []
    verdicts = answer["verdicts"]
    assert isinstance(verdicts, dict)
    counts = {name: count for name, count in verdicts.items() if isinstance(count, int)}
    assert sum(counts.values()) > 100
    assert counts["all accepted"] > 15
    assert counts["all refused"] > 15
