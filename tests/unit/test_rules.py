"""The model: each rule decides its example, and not the neighbour of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from labs.engine.errors import ExitStatus
from labs.engine.rules.calls import (
    BIND_SERVICE,
    CHOWN,
    Accept,
    Acknowledge,
    Bind,
    Call,
    Chown,
    Close,
    Connect,
    Listen,
    Open,
    Option,
    SetOption,
    User,
)
from labs.engine.rules.host import Host
from labs.engine.rules.model import carry_out
from labs.engine.rules.rulebook import RULES, read_version, rules_of
from labs.engine.rules.sockets import Address, Family, Protocol, State, parse_address
from labs.engine.rules.world import Answer, World
from labs.engine.verification.cell import predict
from labs.engine.verification.comparison import Comparison, Mismatch, find_mismatches
from labs.engine.verification.table import make_table
from labs.engine.verification.verify import Verification, lines
from tests.support import ROOT

TCP, UDP = Protocol.TCP, Protocol.UDP
RA, RP = Option.REUSEADDR, Option.REUSEPORT
ALICE, BOB = User("alice", 64001, "one"), User("bob", 64002, "one")
KEEPER = User("keeper", 0, "one", frozenset({BIND_SERVICE, CHOWN}))
HOSTS = {"one": Host(frozenset({parse_address("::1")}), frozenset({"lo", "eth0"}))}
OLD, MIDDLE, NEW = (5, 10, 46), (6, 1, 176), (6, 18, 44)


def bound(
    user: User,
    name: str,
    *options: Option,
    at: str = "127.0.0.1",
    port: int = 8080,
    protocol: Protocol = TCP,
    device: str = "",
) -> list[Call]:
    """A socket with options that asks for a port."""
    family = Family.IPV6 if ":" in at else Family.IPV4
    calls: list[Call] = [Open(user, name, protocol, family)]
    calls += [SetOption(user, name, option) for option in options]
    if device:
        calls.append(SetOption(user, name, Option.DEVICE, device))
    return [*calls, Bind(user, name, at, port)]


def listening(user: User, name: str, *options: Option, at: str = "127.0.0.1") -> list[Call]:
    return [*bound(user, name, *options, at=at), Listen(user, name)]


def accepted(*options: Option) -> list[Call]:
    """A connection of Alice's whose listener is gone."""
    return [
        *listening(ALICE, "A", *options),
        Open(ALICE, "client", TCP, Family.IPV4),
        Connect(ALICE, "client", "127.0.0.1", 8080, "child"),
        Accept(ALICE, "A", "child"),
        Close(ALICE, "A"),
    ]


def ended(*options: Option) -> list[Call]:
    return [*accepted(*options), Close(ALICE, "child"), Close(ALICE, "client")]


def play(calls: Sequence[Call], version: tuple[int, ...] = NEW) -> tuple[Answer, World]:
    """The answer to the last call, before which all were answered OK, and the world after it."""
    world = World(rules_of(version), HOSTS)
    for call in calls[:-1]:
        answer, world = carry_out(world, call)
        assert not answer.errno, call
    return carry_out(world, calls[-1])


@dataclass(frozen=True)
class Case:
    """What a rule decides, and its neighbour, which another rule decides."""

    example: Sequence[Call]
    neighbour: Sequence[Call]
    errno: str = ""
    version: tuple[int, ...] = NEW


STRANGER = "10.1.1.1"
SIX = Open(ALICE, "A", TCP, Family.IPV6)
ONLY = SetOption(ALICE, "A", Option.V6ONLY)
CASES = {
    "address-not-here": Case(
        bound(ALICE, "A", at=STRANGER), bound(ALICE, "A", at="127.9.9.9"), "EADDRNOTAVAIL"
    ),
    "privileged-port": Case(bound(ALICE, "A", port=1023), bound(KEEPER, "A", port=1023), "EACCES"),
    "bound-already": Case(
        [*bound(ALICE, "A"), Bind(ALICE, "A", "127.0.0.1", 9090)],
        [*bound(ALICE, "A"), *bound(ALICE, "B", port=9090)],
        "EINVAL",
    ),
    "mapped-on-v6only": Case(
        [SIX, ONLY, Bind(ALICE, "A", "::ffff:127.0.0.1", 8080)],
        [SIX, Bind(ALICE, "A", "::ffff:127.0.0.1", 8080)],
        "EINVAL",
    ),
    "remembered-reuseaddr": Case(
        [
            *bound(ALICE, "A", RA),
            SetOption(ALICE, "A", RA, False),
            *bound(BOB, "B", RA),
        ],
        [*listening(ALICE, "A", RA), *bound(BOB, "B", RA)],
        version=OLD,
    ),
    "remembered-reuseport": Case(
        [*bound(ALICE, "A", RP), SetOption(ALICE, "A", RP, False), *bound(ALICE, "B", RP)],
        [*bound(ALICE, "A", RP), *bound(BOB, "B", RP)],
    ),
    "other-address": Case(
        [*bound(ALICE, "A"), *bound(BOB, "B", at="127.0.0.2")],
        [*bound(ALICE, "A"), *bound(BOB, "B", at="0.0.0.0")],
    ),
    "unseen-wildcard": Case(
        [*bound(ALICE, "A", at="::ffff:0.0.0.0"), *bound(BOB, "B", at="::ffff:127.0.0.1")],
        [*bound(ALICE, "A", at="::ffff:0.0.0.0"), *bound(BOB, "B", at="127.0.0.1")],
        version=MIDDLE,
    ),
    "other-device": Case(
        [*bound(ALICE, "A", device="lo"), *bound(BOB, "B", device="eth0")],
        [*bound(ALICE, "A", device="lo"), *bound(BOB, "B")],
    ),
    "both-reuseaddr": Case(
        [*bound(ALICE, "A", RA), *bound(BOB, "B", RA)],
        [*listening(ALICE, "A", RA), *bound(BOB, "B", RA)],
    ),
    "both-reuseport": Case(
        [*bound(ALICE, "A", RP), *bound(ALICE, "B", RP, at="0.0.0.0")],
        [*bound(ALICE, "A", RP), *bound(BOB, "B", RP, at="0.0.0.0")],
    ),
    "group-found": Case(
        [*bound(ALICE, "A", RP, protocol=UDP), *bound(ALICE, "B", RP, protocol=UDP)],
        [*bound(ALICE, "A", RP, protocol=UDP), *bound(BOB, "B", RP, protocol=UDP)],
    ),
    "reuseport-after-end": Case(
        [*ended(RP), *bound(BOB, "B", RP)],
        [*accepted(RP), *bound(BOB, "B", RP)],
    ),
    "taken": Case(
        [*bound(ALICE, "A"), *bound(ALICE, "B")],
        [*bound(ALICE, "A"), *bound(ALICE, "B", protocol=UDP)],
        "EADDRINUSE",
    ),
    "free": Case(bound(ALICE, "A"), [*bound(ALICE, "A"), *bound(ALICE, "B")]),
    "some-port": Case(bound(ALICE, "A", port=0), bound(ALICE, "A")),
    "plain": Case([SIX], [SIX, Bind(ALICE, "A", "::1", 8080)]),
    "not-owner": Case(
        [SIX, Chown(ALICE, "A", BOB.uid)], [SIX, Chown(KEEPER, "A", BOB.uid)], "EPERM"
    ),
    "not-tcp": Case(
        [*bound(ALICE, "A", protocol=UDP), Listen(ALICE, "A")],
        listening(ALICE, "A"),
        "EOPNOTSUPP",
    ),
    "connected-already": Case(
        [*accepted(), Listen(ALICE, "child")], listening(ALICE, "A"), "EINVAL"
    ),
    "not-ipv6": Case([Open(ALICE, "A", TCP, Family.IPV4), ONLY], [SIX, ONLY], "ENOPROTOOPT"),
    "too-late": Case([*bound(ALICE, "A", at="::"), ONLY], [SIX, ONLY], "EINVAL"),
    "no-device": Case(
        [SIX, SetOption(ALICE, "A", Option.DEVICE, "eth7")],
        [SIX, SetOption(ALICE, "A", Option.DEVICE, "eth0")],
        "ENODEV",
    ),
    "no-group": Case(
        [SIX, SetOption(ALICE, "A", Option.PROGRAM)],
        [SIX, SetOption(ALICE, "A", RP), SetOption(ALICE, "A", Option.PROGRAM)],
        "EINVAL",
    ),
    "no-listener": Case(
        [
            *bound(ALICE, "A"),
            Open(BOB, "c", TCP, Family.IPV4),
            Connect(BOB, "c", "127.0.0.1", 8080, "child"),
        ],
        [
            *listening(ALICE, "A"),
            Open(BOB, "c", TCP, Family.IPV4),
            Connect(BOB, "c", "127.0.0.1", 8080, "child"),
        ],
        "ECONNREFUSED",
    ),
    "device-kept": Case(
        [*bound(ALICE, "A", device="lo"), SetOption(ALICE, "A", Option.DEVICE, "")],
        [*bound(ALICE, "A"), SetOption(ALICE, "A", Option.DEVICE, "lo")],
        "EPERM",
    ),
    "connected-once": Case(
        [*listening(ALICE, "A"), Connect(ALICE, "A", "127.0.0.1", 8080, "child")],
        [*bound(ALICE, "A"), Connect(ALICE, "A", "127.0.0.1", 8081, "child")],
        "EISCONN",
    ),
    "mapped-from-v6only": Case(
        [SIX, ONLY, Connect(ALICE, "A", "::ffff:127.0.0.1", 8080, "child")],
        [SIX, Connect(ALICE, "A", "::ffff:127.0.0.1", 8080, "child")],
        "ENETUNREACH",
    ),
    "no-stream": Case(
        [*bound(ALICE, "A", protocol=UDP), Accept(ALICE, "A", "child")],
        [*listening(ALICE, "A"), Accept(ALICE, "A", "child")],
        "EOPNOTSUPP",
    ),
    "not-listening": Case(
        [*bound(ALICE, "A"), Accept(ALICE, "A", "child")],
        [*listening(ALICE, "A"), Accept(ALICE, "A", "child")],
        "EINVAL",
    ),
    "no-connection": Case(
        [*listening(ALICE, "A"), Accept(ALICE, "A", "child")],
        accepted()[:-1],
        "EAGAIN",
    ),
}


def test_every_rule_has_an_example() -> None:
    assert {rule.name for rule in RULES} == {*CASES}
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_decides_its_example_and_not_its_neighbour(name: str) -> None:
    case = CASES[name]
    answer, _ = play(case.example, case.version)
    assert (answer.rule.name, answer.errno) == (name, case.errno)
    neighbour, _ = play(case.neighbour, case.version)
    assert neighbour.rule.name != name


@pytest.mark.parametrize("name", ["remembered-reuseaddr", "unseen-wildcard"])
def test_a_rule_that_other_kernels_do_not_have(name: str) -> None:
    answer, _ = play(CASES[name].example, NEW)
    assert (answer.rule.name, answer.errno) == ("taken", "EADDRINUSE")


def test_who_stands_in_the_way_is_named() -> None:
    answer, _ = play([*bound(ALICE, "A", RP), *bound(BOB, "B", RP)])
    assert answer.holder and answer.holder.name == "A"
    assert answer.holder.owner == ALICE.uid


def test_listen_asks_once_more() -> None:
    answer, _ = play([*bound(ALICE, "A", RA), *listening(BOB, "B", RA), Listen(ALICE, "A")])
    assert (answer.errno, answer.holder and answer.holder.name) == ("EADDRINUSE", "B")


def test_a_socket_that_was_given_away_is_its_new_owners() -> None:
    given = [*bound(KEEPER, "A", RP), Chown(KEEPER, "A", BOB.uid)]
    assert play([*given, *bound(BOB, "B", RP)])[0].rule.name == "both-reuseport"
    assert play([*given, *bound(ALICE, "B", RP)])[0].errno == "EADDRINUSE"


def test_other_network_namespaces_are_not_asked() -> None:
    elsewhere = User("alice", 64001, "two")
    world = World(rules_of(NEW), {**HOSTS, "two": HOSTS["one"]})
    for call in (*bound(elsewhere, "A"), *bound(ALICE, "B")):
        answer, world = carry_out(world, call)
    assert answer.rule.name == "free"


@pytest.mark.parametrize(("version", "errno"), [((6, 12), "EADDRINUSE"), ((6, 17), "")])
def test_a_connection_that_nobody_has_accepted(version: tuple[int, ...], errno: str) -> None:
    waiting = [
        *listening(ALICE, "A", RP),
        Open(BOB, "client", TCP, Family.IPV4),
        Connect(BOB, "client", "127.0.0.1", 8080, "child"),
    ]
    answer, _ = play([*waiting, *bound(ALICE, "B", RP, at="0.0.0.0")], version)
    assert answer.errno == errno


def test_a_connection_ends_in_steps() -> None:
    _, world = play([*accepted(), Close(ALICE, "child")])
    assert world.sockets["child"].state is State.FIN_WAIT1
    _, world = carry_out(world, Acknowledge(ALICE, "client"))
    assert world.sockets["child"].state is State.TIME_WAIT
    _, world = carry_out(world, Close(ALICE, "client"))
    assert [*world.sockets] == ["child"]


def test_who_closes_last_leaves_nothing() -> None:
    _, world = play([*accepted(), Close(ALICE, "client"), Close(ALICE, "child")])
    assert [*world.sockets] == ["client"]
    assert world.buckets == {}


def test_a_port_is_forgotten_with_its_last_socket() -> None:
    _, world = play([*bound(ALICE, "A", RA), *bound(BOB, "B", RA), Close(ALICE, "A")])
    ((_, bucket),) = world.buckets.items()
    assert bucket.members == ("B",)
    assert carry_out(world, Close(BOB, "B"))[1].buckets == {}


def test_addresses() -> None:
    assert (
        parse_address("127.0.0.1") == parse_address("::ffff:127.0.0.1") == Address(True, 2130706433)
    )
    assert parse_address("::") == Address(False, 0)
    with pytest.raises(ValueError, match="nowhere"):
        parse_address("nowhere")


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-name", (6, 18, 44)),
        ("6.1.0-50-amd64", (6, 1, 0)),
        ("7.3-rc1", (7, 3)),
        ("6.19.0-rc1+", (6, 19, 0)),
        ("5.10.46", (5, 10, 46)),
    ],
)
def test_releases(release: str, version: tuple[int, ...]) -> None:
    assert read_version(release) == version


@pytest.mark.parametrize("release", ["", "next", "6"])
def test_what_is_no_release(release: str) -> None:
    with pytest.raises(ValueError, match="no kernel's release"):
        read_version(release)


def test_an_option_has_values_of_its_kind() -> None:
    with pytest.raises(ValueError, match="SO_REUSEADDR cannot be lo"):
        play([SIX, SetOption(ALICE, "A", RA, "lo")])


def test_the_table_has_cells_enough_each_on_a_port_of_its_own() -> None:
    table = make_table()
    assert len(table) >= 5_000
    seen: set[tuple[str, int]] = set()
    for cell in table:
        protocols = {call.socket: call.protocol for call in cell.calls if isinstance(call, Open)}
        claims = {
            (protocols[call.socket], call.port)
            for call in cell.calls
            if isinstance(call, Bind) and call.port
        }
        assert not claims & seen, cell.about
        seen |= claims
    assert max(port for _, port in seen) < 32_768


def test_the_page_says_how_many_cells_there_are() -> None:
    assert f"A table of {len(make_table()):,} cells" in (ROOT / "docs" / "rules.md").read_text()


def test_a_mismatch_is_the_first_call_that_differs() -> None:
    cell = make_table()[3]
    right = [98 if answer.errno else 0 for answer in predict(cell, rules_of(NEW))]
    assert [*find_mismatches([cell], [right], rules_of(NEW))] == []
    wrong = [*right[:-3], 13, *right[-2:]]
    (mismatch,) = find_mismatches([cell], [wrong], rules_of(NEW))
    assert isinstance(mismatch, Mismatch)
    assert (mismatch.index, mismatch.kernel) == (len(right) - 3, "EACCES")
    assert [*mismatch.lines()][-1].endswith("= -1 EACCES (Permission denied)")


def test_one_kernel_that_differs_is_what_matters() -> None:
    passed = Comparison("host", ExitStatus.PASSED)
    differs = Comparison("6.1", ExitStatus.DIFFERS)
    absent = Comparison("7.3", ExitStatus.CANNOT_RUN, problem="It was not fetched.", hint="do it")
    assert Verification([passed]).status is ExitStatus.PASSED
    assert Verification([passed, absent]).status is ExitStatus.CANNOT_RUN
    assert Verification([passed, differs, absent]).status is ExitStatus.DIFFERS
    assert [*lines(absent)] == ["7.3: It was not fetched.", "  do it"]
