"""What the warm parent reads of sock_diag's messages."""

import socket

import pytest

from labs.engine.warm_parent import DIAG_MESSAGE, STATES, read_message

ENDS = (b"\x1f\x90", b"\0\0", socket.inet_aton("127.0.0.1") + bytes(12), bytes(16))


@pytest.mark.parametrize(
    ("number", "timer", "expires"),
    [
        (0, "", 0),
        (1, "RETRANSMIT", 200),
        (2, "KEEPALIVE", 200),
        (3, "TIME_WAIT", 200),
        (4, "PROBE", 200),
        (5, "OTHER", 200),
        (255, "OTHER", 200),
    ],
)
def test_a_timer(number: int, timer: str, expires: int) -> None:
    state = STATES.index("TIME_WAIT") + 1
    message = DIAG_MESSAGE.pack(socket.AF_INET, state, number, *ENDS, 200, 1, 2, 64001, 7)
    row = ["TIME_WAIT", ["127.0.0.1", 8080], ["0.0.0.0", 0], 64001, 7, 1, 2, timer, expires]
    assert read_message(socket.AF_INET, message) == row
