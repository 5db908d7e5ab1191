"""Cells in batches, places and shares: none is lost, and all stay in order."""

from collections.abc import Sequence

import pytest

from labs.engine.errors import CannotRun
from labs.engine.verification.measuring import IN_ONE_PLACE, count_connections, cut, part
from labs.engine.verification.sharing import count_shares, share
from labs.engine.verification.table import make_table


def test_a_place_has_room_for_what_its_connections_leave() -> None:
    places = [*part(make_table())]
    assert [batch for place in places for batch in place] == [*cut(make_table())]
    taken = [sum(map(count_connections, place)) for place in places]
    assert len(taken) > 1
    assert max(taken) <= IN_ONE_PLACE
    # No place is left before it is full.
    following = [count_connections(place[0]) for place in places[1:]]
    assert all(one + more > IN_ONE_PLACE for one, more in zip(taken, following, strict=False))


@pytest.mark.parametrize("count", [0, 1, count_shares(), 5 * count_shares() + 1])
def test_shares_come_back_in_order(count: int) -> None:
    batches = [[number, -number] for number in range(count)]

    def double(some: Sequence[list[int]]) -> list[list[int]]:
        return [[2 * number for number in batch] for batch in some]

    expected = [2 * number for batch in batches for number in batch]
    assert share(batches, double) == expected


def test_what_goes_wrong_in_a_share_is_raised() -> None:
    def refuse(some: Sequence[int]) -> list[list[int]]:
        raise CannotRun(f"Not {some[-1]}.", "But so.")

    with pytest.raises(CannotRun, match="Not 0") as raised:
        share([0], refuse)
    assert raised.value.hint == "But so."
