"""port.why: what is made of what was seen, and what is not made of what was not."""

from __future__ import annotations

import io
import itertools
import json
import os
import shlex
import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import jsonschema
import pytest

from labs.engine.errors import CannotRun, ExitStatus, UsageError
from labs.engine.port.advice import advise
from labs.engine.port.answer import Answer
from labs.engine.port.cgroup import find_container, find_unit, is_of_user
from labs.engine.port.netlink import INET_DIAG_CGROUP_ID, INET_DIAG_SKV6ONLY, read_row
from labs.engine.port.processes import find_target, map_inwards, map_outwards
from labs.engine.port.question import Question, Wish, as_root, read_question
from labs.engine.port.ruling import Doubt, Verdict, judge
from labs.engine.port.sight import Container, Elsewhere, Holder, Options, Place, Row, Sight, Taken
from labs.engine.port.unseen import list_unseen
from labs.engine.port.worlds import traits_of, variants_of
from labs.engine.rules.calls import BIND_SERVICE
from labs.engine.rules.host import Host
from labs.engine.rules.sockets import IPV4, IPV6, TCP, UDP, parse_address
from labs.engine.views.port import PortView, name_origin
from labs.engine.warm_parent import DIAG_MESSAGE
from tests.support import ROOT

if TYPE_CHECKING:
    from labs.engine.rules.sockets import Protocol

NEW, OLD = "6.18.44", "6.1.176"
PORT = 8080
ALICE, BOB = 70_001, 70_002  # of no user of any machine
PLAIN, RP, RA, BOTH = (Options(*pair) for pair in itertools.product((False, True), repeat=2))
HOST = Host(
    frozenset(parse_address(text) for text in ("127.0.0.1", "::1", "192.0.2.7", "2001:db8::7")),
    frozenset({"lo", "eth0"}),
)
NUMBERS = itertools.count(100)
SERVER = Holder(4711, "nginx", BOB)
PROXY = Holder(4712, "docker-proxy", 0, unit="docker.service", target="172.17.0.2:80")


def there(
    address: str = "0.0.0.0",
    options: Options | None = PLAIN,
    *,
    state: str = "LISTEN",
    owner: int | None = BOB,
    protocol: Protocol = TCP,
    device: str = "",
    holders: tuple[Holder, ...] = (SERVER,),
) -> Taken:
    family = IPV6 if ":" in address else IPV4
    is_rest = state == "TIME_WAIT"
    row = Row(
        protocol,
        family,
        state,
        (address, PORT),
        ("127.0.0.1", 40_000) if is_rest else ("", 0),
        None if is_rest else owner,
        0 if is_rest else next(NUMBERS),
        device,
        address != "::" if family is IPV6 else None,
        "TIME_WAIT" if is_rest else "",
        41_500 if is_rest else 0,
    )
    return Taken(row) if is_rest else Taken(row, options, holders)


def seen(*taken: Taken, release: str = NEW, hidden: int = 0, sees_bound: bool = True) -> Sight:
    rows = tuple(one.row for one in taken)
    return Sight(release, Place(rows, HOST), taken, hidden, sees_bound)


def question(uid: int = ALICE, **changes: object) -> Question:
    return replace(Question(PORT, uid), **changes)  # type: ignore[arg-type]


def answer(asked: Question, sight: Sight, *, is_root: bool = True) -> Answer:
    ruling = judge(asked, sight)
    unseen = list_unseen(sight, ruling, is_root=is_root)
    return Answer(sight, ruling, advise(ruling, sight), unseen)


def show(told: Answer, language: str = "en") -> str:
    stream = io.StringIO()
    PortView(stream, language).show(told)
    return stream.getvalue()


# --- the question -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        (Wish("0"), "0 is no port"),
        (Wish("65536"), "65536 is no port"),
        (Wish("-1"), "-1 is no port"),
        (Wish("http"), "http is no port"),
        (Wish("²"), "no port"),
        (Wish("80", address="localhost"), "'localhost' is no address"),
        (Wish("80", address="1.2.3"), "no address"),
        (Wish("80", address="[::]"), "no address"),
        (Wish("80", user="nobody-of-this-name"), "no user 'nobody-of-this-name'"),
        (Wish("80", user=str(1 << 32)), "no uid"),
        (Wish("80", user="a\0b"), "no user"),
        (Wish("80", v6only=True), "--v6only"),
        (Wish("80", netns="init"), "--netns"),
        (Wish("80", netns="0"), "--netns"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(wish: Wish, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_question(wish)
    assert word in caught.value.message


@pytest.mark.parametrize("address", ["224.0.0.1", "ff02::1", "fe80::1", "255.255.255.255"])
def test_what_the_rules_leave_out_is_not_answered(address: str) -> None:
    with pytest.raises(CannotRun, match="left"):
        read_question(Wish("80", address=address))


def test_a_question() -> None:
    asked = read_question(Wish("80", "65001", "::ffff:7f00:1", True, True, True, netns="7"))
    assert asked == Question(80, 65_001, UDP, "::ffff:127.0.0.1", frozenset(), True, True, netns=7)
    assert asked.family is IPV6
    assert read_question(Wish("80")).uid == os.geteuid()
    assert read_question(Wish("80", "65001", capability=True)).capabilities == {BIND_SERVICE}


def test_root_is_asked_the_same() -> None:
    wish = Wish("80", "65001", "::", False, True, True, True, "eth0", True, "7")
    command = shlex.split(as_root(read_question(wish)))
    assert command[:5] == ["sudo", "env", "PATH=$PATH", "invoke", "port.why"]
    assert command[5:] == [
        *("80", "--user", "65001", "--address", "::", "--reuseaddr", "--reuseport", "--v6only"),
        *("--capability", "--device", "eth0", "--netns", "7"),
    ]
    mine = as_root(read_question(Wish("80", udp=True)))
    assert mine.endswith(f" 80 --user {os.geteuid()} --udp")


# --- the verdict --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "changes", "errno", "rule"),
    [
        ((), {}, "", "free"),
        ((there(),), {}, "EADDRINUSE", "taken"),
        ((there("127.0.0.1"),), {"address": "127.0.0.2"}, "", "other-address"),
        ((there(options=RP),), {"reuseport": True}, "EADDRINUSE", "taken"),
        ((there(options=RP),), {"reuseport": True, "uid": BOB}, "", "both-reuseport"),
        ((there(options=RA),), {"reuseaddr": True}, "EADDRINUSE", "taken"),
        ((there(options=RA, state="CLOSE"),), {"reuseaddr": True}, "", "both-reuseaddr"),
        ((there("::"),), {}, "EADDRINUSE", "taken"),
        ((there(device="lo"),), {"device": "eth0"}, "", "other-device"),
        ((), {"device": "eth9"}, "ENODEV", "no-device"),
        ((), {"device": "eth0", "address": "::1"}, "EADDRNOTAVAIL", "address-not-here"),
        ((), {"device": "lo", "address": "::1"}, "", "free"),
        ((), {"device": "lo", "address": "2001:db8::7"}, "", "free"),
        ((), {"address": "198.51.100.1"}, "EADDRNOTAVAIL", "address-not-here"),
        ((there(),), {"port": 80}, "EACCES", "privileged-port"),
    ],
)
def test_a_verdict(
    taken: tuple[Taken, ...], changes: dict[str, object], errno: str, rule: str
) -> None:
    ruling = judge(question(**changes), seen(*taken))  # type: ignore[arg-type]
    (reply,) = ruling.replies
    assert (reply.errno, reply.rule.name) == (errno, rule)
    assert ruling.verdict is (Verdict.REFUSED if errno else Verdict.ACCEPTED)
    assert ruling.verdict.status == (ExitStatus.DIFFERS if errno else ExitStatus.PASSED)


def test_what_was_not_seen_does_not_matter_where_every_answer_is_the_same() -> None:
    """Another user's listener is in the way with whatever options."""
    sight = seen(there(options=None, holders=()), hidden=7)
    for reuseaddr, reuseport in itertools.product((False, True), repeat=2):
        ruling = judge(question(reuseaddr=reuseaddr, reuseport=reuseport), sight)
        assert ruling.verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("taken", "changes", "doubt"),
    [
        (there(options=None), {"uid": BOB, "reuseport": True}, Doubt.OPTIONS),
        (there(options=None, state="CLOSE"), {"reuseaddr": True}, Doubt.OPTIONS),
        (there(state="TIME_WAIT"), {"reuseaddr": True}, Doubt.REST),
        (there(options=RP, owner=None), {"reuseport": True}, Doubt.OWNER),
    ],
)
def test_what_was_not_seen_and_decides_is_named(
    taken: Taken, changes: dict[str, object], doubt: Doubt
) -> None:
    ruling = judge(question(**changes), seen(taken))  # type: ignore[arg-type]
    assert ruling.verdict is Verdict.UNDECIDED
    assert ruling.verdict.status == ExitStatus.CANNOT_RUN
    assert doubt in ruling.doubts
    assert {bool(reply.errno) for reply in ruling.replies} == {False, True}


def test_the_rest_of_a_connection_is_its_listeners() -> None:
    """A listener that is there says what the rest of its connections has."""
    asked = question(BOB, reuseport=True)
    rest = there("127.0.0.1", state="TIME_WAIT")
    assert judge(asked, seen(rest)).verdict is Verdict.UNDECIDED
    assert judge(asked, seen(rest, there(options=RP))).verdict is Verdict.ACCEPTED
    assert judge(asked, seen(rest, there("127.0.0.9", RP))).verdict is Verdict.UNDECIDED


def test_a_kernel_that_does_not_show_who_is_only_bound() -> None:
    free = seen(release=OLD, hidden=3, sees_bound=False)
    ruling = judge(question(), free)
    assert (ruling.verdict, ruling.doubts) == (Verdict.UNDECIDED, (Doubt.BOUND,))
    assert judge(question(), replace(free, sees_bound=True)).verdict is Verdict.ACCEPTED
    taken = seen(there(), release=OLD, hidden=3, sees_bound=False)
    assert judge(question(), taken).verdict is Verdict.REFUSED


def test_a_port_may_remember_who_has_left() -> None:
    """Alice may have been beside Bob, who does not listen, by SO_REUSEADDR, and be known still."""
    sight = seen(there(options=RA, state="CLOSE"))
    ruling = judge(question(reuseport=True), sight)
    assert ruling.doubts == (Doubt.MEMORY,)
    assert {reply.rule.name for reply in ruling.replies} == {"taken", "remembered-reuseport"}
    assert judge(question(), sight).verdict is Verdict.REFUSED


def test_a_udp_group_may_be_found_first() -> None:
    sight = seen(
        there(options=BOTH, state="CLOSE", protocol=UDP, owner=ALICE),
        there(options=RA, state="CLOSE", protocol=UDP),
    )
    ruling = judge(question(protocol=UDP, reuseport=True), sight)
    assert ruling.doubts == (Doubt.ORDER,)


def test_who_is_in_the_way() -> None:
    sight = seen(there("127.0.0.1"), there("192.0.2.7", RP, owner=ALICE), there("::1"))
    ruling = judge(question(reuseport=True), sight)
    (standing,) = ruling.in_the_way
    assert standing.member.first.row.local[0] == "127.0.0.1"


def test_a_connection_that_is_being_made_is_not_on_the_port() -> None:
    assert judge(question(), seen(there(state="SYN_RECV"))).verdict is Verdict.ACCEPTED


def test_thousands_of_connections_are_one_question() -> None:
    many = [there("127.0.0.1", RA, state="ESTABLISHED") for _ in range(5_000)]
    ruling = judge(question(reuseaddr=True), seen(*many))
    assert len(ruling.standings) == 1
    assert len(ruling.standings[0].member.taken) == 5_000


def test_sockets_of_the_same_traits_are_the_same_to_the_rules() -> None:
    """What is taken together before the rules are asked must not be told apart by them."""
    several = [
        there(address, options, state=state, owner=owner, device=device)
        for address in ("0.0.0.0", "::", "::1")
        for options in (PLAIN, RA, RP, None)
        for state in ("LISTEN", "CLOSE", "TIME_WAIT", "FIN_WAIT2")
        for owner in (ALICE, BOB, None)
        for device in ("", "lo")
    ]
    several += [replace(one, row=one.row._replace(inode=0)) for one in several]
    several += [replace(one, row=one.row._replace(v6only=None)) for one in several]
    found: dict[object, set[object]] = {}
    for one in several:
        variants = tuple(variants_of(one, question(reuseport=True)))
        found.setdefault(traits_of(one), set()).add(variants)
    assert len(found) > 100
    assert {len(variants) for variants in found.values()} == {1}


# --- what would make it work --------------------------------------------------------------


def kinds(asked: Question, sight: Sight) -> list[str]:
    return [one.kind for one in advise(judge(asked, sight), sight)]


@pytest.mark.parametrize(
    ("taken", "changes", "expected"),
    [
        (there(options=RP), {}, ["user-reuseport", "stop", "hand-over"]),
        (there(options=RP), {"uid": BOB}, ["reuseport", "stop", "hand-over"]),
        (there(options=None), {}, ["user-reuseport-perhaps", "stop", "hand-over"]),
        (there(options=None, holders=()), {}, ["user-reuseport-perhaps", "hand-over"]),
        (there(options=RA), {}, ["both-reuseport", "stop", "hand-over"]),
        (there(options=RA, state="CLOSE"), {}, ["reuseaddr", "user-reuseport-perhaps", "stop"]),
        (there("127.0.0.1"), {}, ["both-reuseport", "address", "stop", "hand-over"]),
        (there(state="TIME_WAIT"), {}, ["reuseaddr-rest", "wait"]),
        (there(state="TIME_WAIT"), {"reuseaddr": True}, ["wait"]),
        (
            there("0.0.0.0"),
            {"address": "::"},
            ["both-reuseport", "v6only", "address", "stop", "hand-over"],
        ),
        (there(device="eth0"), {}, ["both-reuseport", "device", "stop", "hand-over"]),
    ],
)
def test_advice(taken: Taken, changes: dict[str, object], expected: list[str]) -> None:
    assert kinds(question(**changes), seen(taken)) == expected  # type: ignore[arg-type]


def test_no_advice_where_none_is_needed() -> None:
    assert kinds(question(), seen()) == []


def test_advice_on_a_low_port() -> None:
    asked = question(port=80)
    assert kinds(asked, seen()) == ["capability", "sysctl", "activation"]
    row = there().row._replace(local=("0.0.0.0", 80))
    taken = Taken(row, PLAIN, (SERVER,))
    found = kinds(asked, seen(taken))
    assert found == ["capability", "sysctl", "both-reuseport", "stop", "hand-over"]
    assert not advise(judge(asked, seen(taken)), seen(taken))[0].is_certain


def test_advice_on_an_address_that_is_not_here() -> None:
    asked = question(address="198.51.100.1")
    here, _ = advise(judge(asked, seen()), seen())
    assert here.values == {"addresses": "127.0.0.1, 192.0.2.7"}
    assert kinds(asked, seen()) == ["addresses-here", "nonlocal"]


def test_where_a_server_has_connections_its_end_leaves_something() -> None:
    row = there(options=RA, state="ESTABLISHED").row._replace(peer=("192.0.2.9", 40_000))
    sight = seen(there(options=RA), Taken(row, RA, (SERVER,)))
    assert "stop-connections" in kinds(question(), sight)
    assert "stop" in kinds(question(reuseaddr=True), sight)


@pytest.mark.parametrize(
    ("holders", "what"),
    [
        ((SERVER, replace(SERVER, pid=4712)), "nginx (4711, 4712)"),
        ((replace(SERVER, unit="nginx.service"),), "systemctl stop nginx.service"),
        (
            (replace(SERVER, container=Container("docker", "c0ffee" * 8, "web")),),
            "docker stop web",
        ),
        (
            (replace(SERVER, container=Container("podman", "c0ffee" * 8)),),
            "podman stop c0ffeec0ffee",
        ),
        (
            (replace(SERVER, unit="web.service", is_users=True),),
            "systemctl --user stop web.service",
        ),
        (
            (Holder(1, "systemd", 0),),
            "systemctl stop NAME.socket (systemctl list-sockets)",
        ),
        (
            (Holder(811, "systemd", BOB, is_users=True),),
            "systemctl --user stop NAME.socket (systemctl --user list-sockets)",
        ),
        ((PROXY,), "docker stop CONTAINER (docker ps)"),
        ((replace(PROXY, container=Container("docker", "c0ffee" * 8, "web")),), "docker stop web"),
    ],
)
def test_how_what_is_there_is_stopped(holders: tuple[Holder, ...], what: str) -> None:
    sight = seen(there(options=RP, holders=holders))
    stop = next(one for one in advise(judge(question(), sight), sight) if one.kind == "stop")
    assert stop.values == {"what": what}


def test_a_proxy_of_dockers_is_not_started_by_anybody() -> None:
    """So nobody can give it SO_REUSEPORT, or take its listener."""
    sight = seen(there(options=RP, holders=(PROXY,)))
    assert kinds(question(), sight) == ["stop", "publish"]


def test_a_sysctl_is_of_the_network_namespace_that_is_asked_about() -> None:
    low = {one.kind: one for one in advise(judge(question(port=80, netns=7), seen()), seen())}
    text = low["sysctl"].text.format(**low["sysctl"].values)
    assert text.endswith("on: nsenter -t 7 -n sysctl net.ipv4.ip_unprivileged_port_start=80")
    foreign = question(address="::ffff:198.51.100.1")
    nonlocal_bind = advise(judge(foreign, seen()), seen())[-1]
    text = nonlocal_bind.text.format(**nonlocal_bind.values)
    assert text.endswith("yet: sysctl net.ipv4.ip_nonlocal_bind=1")


# --- what was read ------------------------------------------------------------------------


def test_a_row_of_sock_diag() -> None:
    ends = (b"\x1f\x90", b"\0\0", socket.inet_pton(socket.AF_INET6, "::"), bytes(16))
    message = bytearray(DIAG_MESSAGE.pack(socket.AF_INET6, 10, 0, *ends, 0, 0, 0, 33, 7))
    struct.pack_into("=L", message, 40, 2)
    for kind, content in ((INET_DIAG_SKV6ONLY, b"\1"), (INET_DIAG_CGROUP_ID, b"\x09" + bytes(7))):
        message += struct.pack("=HH", 4 + len(content), kind) + content
        message += bytes(-len(message) % 4)
    row = read_row(TCP, IPV6, bytes(message), {2: "eth0"})
    expected = Row(TCP, IPV6, "LISTEN", ("::", 8080), ("::", 0), 33, 7, "eth0", True, cgroup=9)
    assert row == expected
    assert read_row(TCP, IPV6, bytes(message[: DIAG_MESSAGE.size]), {}).v6only is None


ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "container", "unit"),
    [
        ("0::/", None, ""),
        (f"4:memory:/docker/{ID}\n0::/", Container("docker", ID), ""),
        (f"0::/system.slice/docker-{ID}.scope", Container("docker", ID), ""),
        (
            f"0::/user.slice/user-1.slice/user@1.service/user.slice/libpod-{ID}.scope/container",
            Container("podman", ID),
            "",
        ),
        (
            f"0::/kubepods.slice/kubepods-pod7.slice/cri-containerd-{ID}.scope",
            Container("containerd", ID),
            "",
        ),
        (f"0::/kubepods/burstable/pod1/{ID}", Container("kubernetes", ID), ""),
        ("0::/lxc.payload.web/init.scope", Container("lxc", "web"), ""),
        ("0::/system.slice/nginx.service", None, "nginx.service"),
        ("0::/user.slice/user@1.service/app.slice/web.service", None, "web.service"),
        ("0::/user.slice/user@1.service/app.slice", None, ""),
    ],
)
def test_what_a_cgroup_says(path: str, container: Container | None, unit: str) -> None:
    assert find_container(path) == container
    assert find_unit(path) == unit
    assert is_of_user(path) is ("/user@1" in path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", ""),
        ("/", ""),
        ("/build/7", "/build/7"),
        (f"/docker/{ID}", "docker 0123456789ab"),
        ("/system.slice/nginx.service", "nginx.service"),
    ],
)
def test_where_a_socket_was_made_is_said_briefly(path: str, said: str) -> None:
    assert name_origin(path) == said


def test_uids_of_two_namespaces() -> None:
    uid_map = "         0       1000          1\n         1     100000      65535\n"
    assert [map_inwards(uid_map, uid) for uid in (1000, 100_032, 7)] == [0, 33, None]
    assert [map_outwards(uid_map, uid) for uid in (0, 33, 70_000)] == [1000, 100_032, None]


def test_where_a_proxy_leads() -> None:
    line = "/usr/bin/docker-proxy -proto tcp -host-port 80 -container-ip 172.17.0.2 -container-port"
    assert find_target([*line.split(), "8080", ""]) == "172.17.0.2:8080"
    assert find_target(["docker-proxy"]) == ""


# --- what is told -------------------------------------------------------------------------


def situations() -> list[Answer]:
    inside = replace(
        SERVER, inside=33, container=Container("docker", ID, "web"), target="172.17.0.2:80"
    )
    rest = there("127.0.0.1", state="TIME_WAIT")
    return [
        answer(question(), replace(seen(), elsewhere=(Elsewhere(7, "nginx", 2),))),
        answer(question(), seen(there(options=RP))),
        answer(question(reuseport=True, reuseaddr=True), seen(there(options=RA))),
        answer(question(reuseaddr=True), seen(rest)),
        answer(question(), seen(there("::", None, holders=()), hidden=9), is_root=False),
        answer(question(BOB, reuseport=True), seen(there(options=None)), is_root=False),
        answer(question(), seen(there(owner=None, holders=(inside,)))),
        answer(question(), seen(there(holders=()))),
        answer(question(), seen(release=OLD, hidden=2, sees_bound=False), is_root=False),
        answer(question(reuseport=True), seen(there(options=RA, state="CLOSE"))),
        answer(question(port=80, netns=7), seen()),
        answer(question(address="198.51.100.1"), seen()),
        answer(question(BOB, reuseport=True), seen(there(options=RP))),
    ]


def test_the_document_is_of_its_schema() -> None:
    schema = json.loads((ROOT / "docs" / "port-why.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for told in situations():
        document = json.loads(json.dumps(told.to_json()))
        validator.validate(document)
        assert document["status"] == told.ruling.verdict.status
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**document, "guess": 1})


def test_what_is_told_of_a_refusal() -> None:
    text = show(answer(question(reuseport=True), seen(there(options=RP))))
    assert "TCP bind(0.0.0.0:8080)  would be refused: EADDRINUSE" in text
    assert "taken  The port is taken there" in text
    assert "✘  0.0.0.0:8080  LISTEN  uid 70002  nginx/4711  reuseport" in text
    assert "uid 70002 owns what is there, not" in text
    assert "Start it as uid 70002, with SO_REUSEPORT" in text
    assert "(lab.euid)" in text


def test_what_is_told_of_what_was_not_seen() -> None:
    sight = seen(there(options=None, holders=()), hidden=9)
    text = show(answer(question(), sight, is_root=False))
    assert "unknown" in text
    assert "9 of the processes may not be looked into" in " ".join(text.split())
    assert "sudo" in text
    assert "sudo" not in show(answer(question(), sight, is_root=True))


def test_signs_that_an_output_does_not_have() -> None:
    """What is in the way and what may be are told apart by letters then."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    PortView(stream, "en").show(answer(question(), seen(there(), there("127.0.0.1"))))
    stream.flush()
    lines = raw.getvalue().decode().splitlines()
    assert [line[:3] for line in lines if "LISTEN " in line] == ["  x", "  x"]


def test_what_a_name_would_do_to_a_terminal_is_not_done() -> None:
    evil = replace(SERVER, command="\x1b]0;x\x07")
    assert "\x1b" not in show(answer(question(), seen(there(holders=(evil,)))))


@pytest.mark.parametrize("width", ["80", "140"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_wider_than_the_terminal(
    width: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", width)
    for told in situations():
        for line in show(told, language).splitlines():
            assert cell_len(line) <= int(width), line
