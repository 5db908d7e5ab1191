"""Calls as strace would show them."""

import errno
import socket

import pytest

from labs.engine.model import Call, CallResult, Credentials, Reference, Value
from labs.engine.plans import Publication
from labs.engine.strace import show_address, show_call, show_publication, show_result

ALICE = Credentials(64001, 64001, 64001, 64001)


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        (
            Call("socket", (socket.AF_INET6, socket.SOCK_DGRAM, 0)),
            "socket(AF_INET6, SOCK_DGRAM, 0)",
        ),
        (
            Call("setsockopt", (3, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)),
            "setsockopt(3, SOL_SOCKET, SO_REUSEPORT, 1)",
        ),
        (
            Call("getsockopt", (3, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)),
            "getsockopt(3, IPPROTO_IPV6, IPV6_V6ONLY)",
        ),
        (
            Call("setsockopt", (3, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)),
            "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, 1)",
        ),
        (
            Call("setsockopt", (3, socket.IPPROTO_IP, 49, 0)),
            "setsockopt(3, IPPROTO_IP, IP_MULTICAST_ALL, 0)",
        ),
        (Call("getsockopt", (3, 77, 5)), "getsockopt(3, 77, 5)"),
        (Call("bind", (3, ("0.0.0.0", 8080))), "bind(3, 0.0.0.0:8080)"),
        (Call("connect", (3, ("fd00::1", 80))), "connect(3, [fd00::1]:80)"),
        (Call("listen", (3, 128)), "listen(3, 128)"),
        (Call("send", (3, "hello")), 'send(3, "hello")'),
        (Call("send", (3, "x" * 40)), f'send(3, "{"x" * 32}...")'),
        (Call("send", (3, "\x01\n")), r'send(3, "\x01\n")'),
        (Call("shutdown", (3, socket.SHUT_WR)), "shutdown(3, SHUT_WR)"),
        (Call("fchown", (3, 64001, -1)), "fchown(3, 64001, -1)"),
        (Call("exec", ("/bin/true", ("true", "x"))), 'exec("/bin/true", ["true", "x"])'),
    ],
)
def test_a_call(call: Call, shown: str) -> None:
    assert show_call(call, []) == shown


def test_a_reference_is_shown_as_what_it_stood_for() -> None:
    assert show_call(Call("listen", (Reference(1), 5)), [0, 7]) == "listen(7, 5)"


@pytest.mark.parametrize(
    ("value", "number", "shown"),
    [
        (3, 0, "3"),
        (None, 0, "?"),
        ("text", 0, '"text"'),
        (("10.0.0.1", 80), 0, "10.0.0.1:80"),
        (None, errno.EADDRINUSE, "-1 EADDRINUSE (Address already in use)"),
    ],
)
def test_a_result(value: Value, number: int, shown: str) -> None:
    assert show_result(CallResult(value, number, ALICE)) == shown


def test_a_publication() -> None:
    shown = "publish(127.0.0.1:49153, 10.77.0.2:80)"
    assert show_publication(Publication(80, 49153), "10.77.0.2") == shown


def test_an_address() -> None:
    assert show_address(("::", 1)) == "[::]:1"
