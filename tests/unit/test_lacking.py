"""What is missing for two sockets to share: the fewest changes, and no others."""

import pytest

from labs.engine.rules.lacking import Lack, find_lacks, find_nearest
from labs.engine.rules.rule import Share
from labs.engine.rules.rules import (
    BOTH_REUSEADDR,
    BOTH_REUSEPORT,
    OTHER_ADDRESS,
    OTHER_DEVICE,
    REUSEPORT_AFTER_END,
    TCP_SHARES,
)
from labs.engine.rules.sockets import Family, Protocol, Socket, State, parse_address

ANY, ANY6 = parse_address("0.0.0.0"), parse_address("::")
THEIRS = Socket(*("theirs", Protocol.TCP, Family.IPV4, 64001, "one", ANY, 8080), state=State.LISTEN)
MINE = Socket(*("mine", Protocol.TCP, Family.IPV4, 64001, "one", ANY, 8080))
BOBS = MINE._replace(owner=64002)


@pytest.mark.parametrize(
    ("share", "mine", "theirs", "lacks"),
    [
        (BOTH_REUSEPORT, MINE, THEIRS, (Lack.MY_REUSEPORT, Lack.THEIR_REUSEPORT)),
        (BOTH_REUSEPORT, MINE._replace(reuseport=True), THEIRS, (Lack.THEIR_REUSEPORT,)),
        (
            BOTH_REUSEPORT,
            BOBS._replace(reuseport=True),
            THEIRS._replace(reuseport=True),
            (Lack.SAME_OWNER,),
        ),
        (
            BOTH_REUSEPORT,
            MINE._replace(reuseport=True, prepared=True),
            THEIRS._replace(reuseport=True),
            (Lack.NO_PROGRAM,),
        ),
        (
            BOTH_REUSEADDR,
            BOBS._replace(reuseaddr=True),
            THEIRS._replace(reuseaddr=True),
            (Lack.NOT_LISTENING,),
        ),
        (BOTH_REUSEADDR, BOBS, THEIRS._replace(state=State.CLOSE), (
            Lack.MY_REUSEADDR,
            Lack.THEIR_REUSEADDR,
        )),
        # Nothing makes an address another one, or a connection one that is over.
        (OTHER_ADDRESS, MINE, THEIRS, None),
        (OTHER_DEVICE, MINE, THEIRS, None),
        (REUSEPORT_AFTER_END, MINE, THEIRS, None),
        (
            OTHER_ADDRESS,
            MINE,
            THEIRS._replace(family=Family.IPV6, address=ANY6),
            (Lack.THEIR_V6ONLY,),
        ),
        (
            OTHER_ADDRESS,
            MINE._replace(family=Family.IPV6, address=ANY6),
            THEIRS,
            (Lack.MY_V6ONLY,),
        ),
        (OTHER_ADDRESS, MINE._replace(address=parse_address("127.0.0.1")), THEIRS._replace(
            address=parse_address("127.0.0.2")
        ), ()),
    ],
)  # fmt: skip
def test_a_rule_lacks_the_fewest_changes(
    share: Share, mine: Socket, theirs: Socket, lacks: tuple[Lack, ...] | None
) -> None:
    assert find_lacks(share, mine, theirs) == lacks


def test_the_nearest_rule_lacks_the_fewest() -> None:
    nearest = find_nearest(TCP_SHARES, BOBS._replace(reuseport=True), THEIRS)
    assert nearest is not None
    assert nearest.share is BOTH_REUSEPORT
    assert nearest.lacks == (Lack.THEIR_REUSEPORT, Lack.SAME_OWNER)
    both = THEIRS._replace(family=Family.IPV6, address=ANY6)
    nearest = find_nearest(TCP_SHARES, BOBS, both)
    assert nearest is not None
    assert nearest.share is OTHER_ADDRESS


def test_where_no_rule_comes_near_there_is_none() -> None:
    assert find_nearest([OTHER_DEVICE], MINE, THEIRS) is None
