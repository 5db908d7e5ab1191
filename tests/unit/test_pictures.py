"""Pictures: what a run's events come to, and that both renderings show it."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import find_labs
from labs.engine.layout import Layout
from labs.engine.model import (
    OUTCOMES,
    Broken,
    CallMade,
    Credentials,
    Event,
    Evidence,
    HostOpened,
    Meaning,
    Ok,
    ProcessEvidence,
    ProcessStarted,
    Quantity,
    RunStarted,
    SocketEvidence,
    SocketRow,
    StepEnded,
    StepStarted,
    Succeeded,
    Timeline,
    Verdict,
)
from labs.engine.pictures.album import Album
from labs.engine.pictures.chart import Bars, Course, Strips, chance_band
from labs.engine.pictures.charting import resampled
from labs.engine.pictures.drawing import Box, Columns, Drawing, cell_width, shorten
from labs.engine.pictures.layout import NARROWEST, draw
from labs.engine.pictures.scene import Picture
from labs.engine.pictures.svg import to_file, to_svg
from labs.engine.pictures.text import to_lines
from labs.engine.pictures.words import describe
from labs.engine.runner import run_lab
from labs.engine.script import Lab

ALICE, BOB = 64001, 64002
ADDRESS = "10.77.0.2"
SVG = "{http://www.w3.org/2000/svg}"


def started(name: str, uid: int, user: str, parent: str = "") -> ProcessStarted:
    return ProcessStarted(name, "server", user, uid, Credentials(uid, uid, uid, uid), parent)


def listener(
    *holders: str, uid: int = ALICE, user: str = "alice", waiting: int = 0, reuseport: bool = True
) -> SocketEvidence:
    row = SocketRow("tcp", "LISTEN", ("0.0.0.0", 8080), ("0.0.0.0", 0), uid, 7, waiting, 128)
    return SocketEvidence(row, user, holders, False, reuseport)


def connection(state: str, port: int) -> SocketEvidence:
    row = SocketRow("tcp", state, (ADDRESS, 8080), ("10.77.0.3", port), 0, 0, 0, 0)
    return SocketEvidence(row, "", (), None, None)


def process(name: str, uid: int) -> ProcessEvidence:
    return ProcessEvidence(name, Credentials(uid, uid, uid, uid), 0)


STEP = StepStarted(1, "Two ask", Ok(), "Because.")
SETUP: list[Event] = [
    RunStarted("trial", "A trial", "", "0", "fake", "6.1", "", None, "now"),
    HostOpened("server", ADDRESS, "fd00::2", ""),
    started("alice", ALICE, "alice"),
    started("bob", BOB, "bob"),
    STEP,
]
PROCESSES = (process("alice", ALICE), process("bob", BOB))


def bind(name: str, uid: int, errno: str = "", at: int = 0) -> list[Event]:
    result = "-1" if errno else "0"
    return [
        CallMade(name, uid, "socket(AF_INET, SOCK_STREAM, 0)", "3", "", at),
        CallMade(name, uid, "bind(3, 0.0.0.0:8080)", result, errno, at),
        *([] if errno else [CallMade(name, uid, "listen(3, 128)", "0", "", at)]),
    ]


def ended(*sockets: SocketEvidence, quantity: Quantity | None = None) -> StepEnded:
    outcome = quantity or Succeeded()
    return StepEnded(1, outcome, Verdict.PASSED, (Evidence("server", sockets, PROCESSES),))


def look(*events: Event) -> Picture:
    album = Album()
    for event in (*SETUP, *events):
        album(event)
    return album.picture


def text_of(picture: Picture, columns: int = 72, *, has_signs: bool = True) -> str:
    lines = to_lines(draw(picture, columns), has_signs=has_signs)
    return "\n".join("".join(piece.text for piece in line) for line in lines)


REFUSED = look(*bind("alice", ALICE), *bind("bob", BOB, "EADDRINUSE"), ended(listener("alice")))


# --- what a picture has -------------------------------------------------------------------


def test_a_port_has_its_listener_and_who_was_refused_it() -> None:
    (host,) = REFUSED.hosts
    (door,) = host.doors
    (queue,) = door.queues
    assert (door.protocol, door.port) == ("tcp", 8080)
    assert (queue.owner, queue.uid, queue.backlog) == ("alice", ALICE, 128)
    assert [figure.name for figure in queue.holders] == ["alice"]
    tried = [(attempt.figure.name, attempt.shown, attempt.errno) for attempt in host.attempts]
    assert tried == [
        ("alice", "bind 0.0.0.0:8080", ""),
        ("alice", "listen", ""),
        ("bob", "bind 0.0.0.0:8080", "EADDRINUSE"),
    ]


def test_while_a_step_goes_on_its_picture_has_what_was_tried_so_far() -> None:
    before = look(*bind("bob", BOB, "EADDRINUSE"))
    (host,) = before.hosts
    assert [door.queues for door in host.doors] == [()]
    assert "EADDRINUSE" in text_of(before)


def test_the_next_step_begins_with_what_is_there_and_nothing_tried() -> None:
    after = look(
        *bind("bob", BOB, "EADDRINUSE"),
        ended(listener("alice")),
        StepStarted(2, "Next", Ok(), "Because."),
        CallMade("alice", ALICE, "getsockname(3)", "0.0.0.0:8080", ""),
    )
    (host,) = after.hosts
    assert host.attempts == ()
    assert [queue.owner for door in host.doors for queue in door.queues] == ["alice"]


def test_a_group_is_framed_and_named_for_its_owner() -> None:
    picture = look(*bind("alice", ALICE), ended(listener("alice"), listener("bob")))
    assert "reuseport group of alice/64001" in text_of(picture)
    lone = look(*bind("alice", ALICE), ended(listener("alice", reuseport=False)))
    assert "reuseport" not in text_of(lone)


def test_two_owners_are_two_groups() -> None:
    bobs = listener("bob", uid=BOB, user="bob")
    text = text_of(look(*bind("alice", ALICE), ended(listener("alice"), bobs)))
    assert "group of alice/64001" in text
    assert "group of bob/64002" in text


def test_who_holds_somebody_elses_socket_stands_beside_its_owner() -> None:
    assert "● 64001 by ▲ bob" in text_of(look(*bind("alice", ALICE), ended(listener("bob"))))


def test_a_user_namespace_is_a_frame_with_the_uid_inside_and_outside() -> None:
    inside = CallMade("bob", 0, "bind(3, 0.0.0.0:8080)", "-1", "EADDRINUSE")
    picture = look(inside, ended(listener("alice")))
    (figure,) = [attempt.figure for attempt in picture.hosts[0].attempts]
    assert (figure.inner, figure.uid) == (0, BOB)
    assert "┊▲ bob/0┊ 64002 outside" in text_of(picture)


def test_who_changes_its_uid_is_shown_with_the_one_that_it_had_when_it_called() -> None:
    root = started("root", 0, "root")
    drop = CallMade("root", BOB, f"setuid({BOB})", "0", "")
    seen = Evidence("server", (listener("root", uid=0, user="root"),), (process("root", BOB),))
    picture = look(root, *bind("root", 0), drop, StepEnded(1, Succeeded(), Verdict.PASSED, (seen,)))
    (host,) = picture.hosts
    assert {(attempt.figure.uid, attempt.figure.user) for attempt in host.attempts} == {(0, 2)}
    ((holder,),) = (queue.holders for door in host.doors for queue in door.queues)
    assert (holder.uid, holder.inner) == (BOB, None)


def test_who_changes_its_uid_has_no_user_namespace_before_the_kernel_shows_one() -> None:
    album = Album()
    take = CallMade("bob", ALICE, f"seteuid({ALICE})", "0", "")
    for event in (*SETUP, ended(listener("alice")), replace(STEP, number=2), take):
        album(event)
    album(StepEnded(2, Broken("it died"), Verdict.FAILED, ()))
    (bob,) = (figure for figure in album.picture.hosts[0].figures if figure.name == "bob")
    assert (bob.uid, bob.inner) == (ALICE, None)


def test_a_uid_that_the_run_does_not_name_is_nobodys() -> None:
    root = started("root", 0, "root")
    drop = CallMade("root", 33, "setuid(33)", "0", "")
    seen = Evidence("server", (), (process("root", 33),))
    picture = look(root, drop, StepEnded(1, Succeeded(), Verdict.PASSED, (seen,)))
    assert "○ root/33" in text_of(picture)


def test_what_is_bound_in_another_network_namespace_is_at_no_door_of_the_host() -> None:
    leave = CallMade("bob", BOB, "unshare(CLONE_NEWNET)", "0", "")
    away = look(leave, *bind("bob", BOB), ended(listener("alice")))
    assert [attempt.target for attempt in away.hosts[0].attempts] == [None, None]
    assert "bind 0.0.0.0:8080, listen  OK ── ▲ bob" in text_of(away)
    back = look(leave, CallMade("bob", BOB, "setns()", "0", ""), *bind("bob", BOB, "EADDRINUSE"))
    assert [door.port for door in back.hosts[0].doors] == [8080]


def test_connections_are_counted_by_their_state() -> None:
    many = [connection("TIME_WAIT", port) for port in range(1, 2001)]
    picture = look(*bind("alice", ALICE), ended(*many, connection("ESTABLISHED", 1)))
    assert dict(picture.hosts[0].doors[0].connections) == {"TIME_WAIT": 2000, "ESTABLISHED": 1}
    assert "2000 TIME_WAIT, 1 ESTABLISHED" in text_of(picture)
    assert "nobody listens" in text_of(picture)


@pytest.mark.parametrize(("waiting", "gauge"), [(0, "▯▯▯▯▯"), (2, "▮▮▯▯▯"), (99, "▮▮▮▮▮")])
def test_a_queue_shows_who_waits(waiting: int, gauge: str) -> None:
    picture = look(*bind("alice", ALICE), ended(listener("alice", waiting=waiting)))
    assert f"{gauge} {waiting}/128" in text_of(picture)


def test_a_connection_to_another_host_is_an_arrow_to_its_door() -> None:
    there = replace(started("client", BOB, "bob"), host="elsewhere")
    connect = CallMade("client", BOB, f"connect(3, {ADDRESS}:8080)", "0", "")
    events: list[Event] = [
        HostOpened("elsewhere", "10.77.0.3", "fd00::3", ""),
        there,
        connect,
        connect,
    ]
    text = text_of(look(*bind("alice", ALICE), *events, ended(listener("alice"))))
    assert "╭▶" in text
    assert "connect × 2" in text
    refused = replace(connect, result="-1", errno="ECONNREFUSED")
    text = text_of(look(*events[:2], refused, ended()))
    assert "✘" in text
    assert "connect  ECONNREFUSED" in text


def test_the_same_user_has_the_same_sign_whoever_comes_first() -> None:
    album = Album()
    for event in [*SETUP[:2], started("bob", BOB, "bob"), started("alice", ALICE, "alice")]:
        album(event)
    assert (album.user("alice"), album.user("bob")) == (0, 1)


def test_a_call_that_is_refused_after_fork_is_aimed_where_the_parents_was() -> None:
    picture = look(
        *bind("alice", ALICE),
        started("child", ALICE, "alice", "alice"),
        CallMade("child", ALICE, "listen(3, 128)", "-1", "EADDRINUSE"),
        ended(listener("alice")),
    )
    last = picture.hosts[0].attempts[-1]
    assert (last.figure.name, last.target and last.target.port) == ("child", 8080)


def test_a_bound_socket_of_tcp_is_in_no_group_before_it_listens() -> None:
    member = listener("alice")
    bound = replace(member, holders=("bob",), row=replace(member.row, state="CLOSE"))
    text = text_of(look(*bind("alice", ALICE), ended(bound, member)))
    begin, inside, end, outside = text.splitlines()[1:5]
    assert "group of" in begin
    assert "alice" in inside
    assert "╯" in end
    assert "▲ bob  SO_REUSEPORT" in outside


def test_of_many_attempts_one_of_each_kind_is_drawn() -> None:
    many: list[Event] = []
    for number in range(12):
        name = f"member-{number}"
        many += [started(name, ALICE, "alice"), *bind(name, ALICE)]
    connect = CallMade("bob", BOB, f"connect(3, {ADDRESS}:8080)", "0", "")
    text = text_of(look(*many, connect, *bind("bob", BOB, "EADDRINUSE"), ended(listener("alice"))))
    assert "connect ─" in text
    assert "EADDRINUSE ─" in text
    assert text.count("bind 0.0.0.0:8080, listen ─") == 4
    assert "and 8 more" in text


# --- charts -------------------------------------------------------------------------------


def chart_of(quantity: Quantity, *events: Event) -> Picture:
    return look(*events, ended(listener("alice"), quantity=quantity))


def test_shares_by_chance_have_the_band_that_chance_allows() -> None:
    picture = chart_of(Quantity("accepted", 40, {"alice": 30, "bob": 10}, Meaning.CHANCE))
    assert isinstance(picture.chart, Bars)
    assert picture.chart.band == chance_band(40, 2)
    assert "chance allows 10 to 30 for each (99.9 %)" in text_of(picture)


def test_the_band_has_the_middle_of_what_chance_gives() -> None:
    assert chance_band(10, 2) == (0, 10)  # 2⁻¹⁰ is more than a two-thousandth
    assert chance_band(12, 2) == (1, 11)
    assert chance_band(2000, 4) == (437, 565)
    for total, members in ((1, 2), (40, 3), (100, 5), (400, 4), (1000, 50)):
        assert chance_band(total, members) == exact_band(total, members)


def exact_band(total: int, members: int) -> tuple[int, int]:
    """The same by whole numbers alone."""
    ways = [
        math.comb(total, count) * (members - 1) ** (total - count) for count in range(total + 1)
    ]
    below = [2000 * each for each in accumulate(ways)]
    low = next(count for count, each in enumerate(below) if each >= members**total)
    return low, next(count for count, each in enumerate(below) if each >= 1999 * members**total)


@pytest.mark.parametrize("many", [0, 10**7])
def test_of_none_and_of_too_many_there_is_no_band(many: int) -> None:
    chart = chart_of(Quantity("accepted", many, {"alice": many, "bob": 0}, Meaning.CHANCE)).chart
    assert isinstance(chart, Bars)
    assert chart.band is None


def test_other_shares_have_no_band_and_other_figures_no_chart() -> None:
    bars = chart_of(Quantity("each", 4, {"alice": 2, "bob": 2}, Meaning.SHARES)).chart
    assert isinstance(bars, Bars)
    assert bars.band is None
    assert chart_of(Quantity("a second", 4, {"median": 2})).chart is None


def test_a_strip_has_a_mark_for_each_time_somebody_woke() -> None:
    picture = chart_of(Quantity("wake-ups", 5, {"alice": 4, "bob": 1}, Meaning.WAKE_UPS))
    assert isinstance(picture.chart, Strips)
    alice, bob, note = text_of(picture).splitlines()[-3:]
    assert (alice.count("▅"), bob.count("▅")) == (4, 1)
    assert note.strip() == "a mark for each wake-up"
    assert "a mark for 7 wake-ups" in text_of(RENDERED["strips"])
    assert "5 wake-ups. Wake-ups: alice 4, bob 1." in describe(picture)


TIMELINE = Timeline(1000, 100, ((5, 0, 0, 0), (0, 7, 0, 0), (0, 0, 2, 0), (5, 0, 0, 0)))
LOST = Quantity("lost", 9, {"answered": 10, "refused": 7}, Meaning.REQUESTS, TIMELINE)


def test_a_load_is_a_timeline_of_who_served_and_what_was_lost() -> None:
    end = CallMade("alice", ALICE, "exit(0)", "0", "", 1100)
    picture = chart_of(LOST, *bind("alice", ALICE, at=500), end, *bind("bob", BOB, at=1300))
    chart = picture.chart
    assert isinstance(chart, Course)
    assert [(life.name, life.begun, life.ended) for life in chart.lives] == [
        ("alice", None, 100),
        ("bob", 300, None),
    ]
    assert [chart.counts(outcome) for outcome in OUTCOMES] == [
        [5, 0, 0, 5],
        [0, 7, 0, 0],
        [0, 0, 2, 0],
        [0, 0, 0, 0],
    ]
    text = text_of(picture)
    assert "refused" in text
    assert "timed out" not in text


def lives_of(*events: Event) -> list[tuple[str, int | None, int | None]]:
    chart = chart_of(LOST, *events).chart
    assert isinstance(chart, Course)
    return [(life.name, life.begun, life.ended) for life in chart.lives]


def test_who_closes_a_connection_or_listens_on_a_unix_socket_serves_as_before() -> None:
    others = [
        CallMade("alice", ALICE, "accept(3)", "4", "", 1050),
        CallMade("alice", ALICE, "close(4)", "0", "", 1060),
        CallMade("bob", BOB, "socket(AF_UNIX, SOCK_STREAM, 0)", "5", "", 1100),
        CallMade("bob", BOB, 'bind(5, "@handover")', "0", "", 1100),
        CallMade("bob", BOB, "listen(5, 128)", "0", "", 1100),
        CallMade("bob", BOB, 'exec("/bin/sleep", ["/bin/sleep", "60"])', "0", "", 1200),
    ]
    assert lives_of(*bind("alice", ALICE, at=500), *others) == [("alice", None, None)]
    close = CallMade("alice", ALICE, "close(3)", "0", "", 1200)
    assert lives_of(*bind("alice", ALICE, at=500), *others, close) == [("alice", None, 200)]


def test_a_load_that_began_in_an_earlier_step_is_one_at_its_port() -> None:
    load = CallMade("bob", BOB, "load(127.0.0.1:8080, 9, 9)", "0", "", 900)
    album = Album()
    before = [*SETUP, *bind("alice", ALICE, at=500), load, ended(listener("alice"))]
    killed = CallMade("alice", ALICE, "+++ killed by SIGKILL +++", "", "", 1150)
    stop = CallMade("bob", BOB, "stop()", "asked 10", "", 1400)
    for event in (*before, replace(STEP, number=2), killed, stop, ended(quantity=LOST)):
        album(event)
    assert isinstance(album.picture.chart, Course)
    assert [(life.name, life.ended) for life in album.picture.chart.lives] == [("alice", 150)]


@pytest.mark.parametrize("width", [7, 59, 60, 61, 120, 125])
def test_columns_of_a_chart_are_as_even_as_the_slots(width: int) -> None:
    even = resampled([5] * 60, width)
    assert even == pytest.approx([300 / width] * width)
    lone = resampled([0] * 30 + [60] + [0] * 29, width)
    assert sum(lone) == pytest.approx(60)
    assert all((value > 0) == (column * 60 < 31 * width and (column + 1) * 60 > 30 * width)
               for column, value in enumerate(lone))  # fmt: skip


def test_outcomes_are_drawn_to_one_scale() -> None:
    few = Timeline(0, 100, ((100, 0, 0, 0), (0, 0, 4, 0)))
    drawing = draw(chart_of(Quantity("lost", 4, {}, Meaning.REQUESTS, few)), 72)
    answered, reset = (shape for shape in drawing.shapes if isinstance(shape, Columns))
    assert max(answered.heights) == 1
    assert 0 < max(reset.heights) < 0.2


def test_requests_without_a_timeline_are_bars() -> None:
    for none in (None, replace(TIMELINE, slots=()), replace(TIMELINE, width=0)):
        picture = chart_of(replace(LOST, timeline=none))
        assert isinstance(picture.chart, Bars)
    assert isinstance(picture.chart, Bars)
    assert "refused" in picture.chart.losses


# --- the renderings -----------------------------------------------------------------------

RENDERED = {
    "refused": REFUSED,
    "bars": chart_of(Quantity("accepted", 40, {"alice": 30, "bob": 10}, Meaning.CHANCE)),
    "strips": chart_of(Quantity("wake-ups", 500, {"alice": 400, "bob": 100}, Meaning.WAKE_UPS)),
    "course": chart_of(LOST, *bind("alice", ALICE, at=500)),
    "nothing": Picture(()),
}


def words(drawing: Drawing) -> set[str]:
    tree = ET.fromstring(to_svg(drawing, "a picture"))
    return {element.text or "" for element in tree.iter(f"{SVG}text")}


@pytest.mark.parametrize("columns", [1, 40, 57, 72, 120])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("picture", RENDERED.values(), ids=RENDERED)
def test_nothing_is_wider_than_the_drawing(picture: Picture, language: str, columns: int) -> None:
    drawing = draw(picture, columns, language)
    assert drawing.columns == max(columns, NARROWEST)
    for has_signs in (True, False):
        for line in to_lines(drawing, has_signs=has_signs):
            assert cell_width("".join(piece.text for piece in line)) <= drawing.columns


def test_a_listener_has_its_holder_and_its_number_however_narrow_it_is() -> None:
    alone = look(*bind("alice", ALICE), ended(listener("alice", waiting=3)))
    assert "┊ 0.0.0.0 3/128 ● alice  ┊" in text_of(alone, 40)
    holders = ("alice", *(f"child-{number}" for number in range(1, 5)))
    children = [started(name, ALICE, "alice", "alice") for name in holders[1:]]
    text = text_of(look(*bind("alice", ALICE), *children, ended(listener(*holders))), 40)
    assert "┊ 0.0.0.0 0/128 ● a…  +4 ┊" in text


@pytest.mark.parametrize("picture", RENDERED.values(), ids=RENDERED)
def test_both_renderings_say_the_same(picture: Picture) -> None:
    drawing = draw(picture, 72)
    text = text_of(picture)
    for word in words(drawing):
        assert word.strip() in text


@pytest.mark.parametrize("picture", RENDERED.values(), ids=RENDERED)
def test_without_signs_there_is_nothing_but_ascii(picture: Picture) -> None:
    assert text_of(picture, has_signs=False).replace("×", "x").isascii()


@pytest.mark.parametrize("columns", [40, 50, 60])
def test_what_the_kernel_answered_is_said_however_narrow_it_is(columns: int) -> None:
    assert "EADDRINUSE" in text_of(REFUSED, columns)


def test_a_refusal_is_a_cross_and_a_word_not_a_colour_alone() -> None:
    svg = to_svg(draw(REFUSED, 72))
    assert 'class="cross"' in svg
    assert "✘" in text_of(REFUSED)


def test_hostile_names_stay_text() -> None:
    name = '<script>"&\x1b[31m\x00\n\ud800\u202e\x85'
    shown = '<script>"&\ufffd[31m' + 5 * "\ufffd"
    opened = HostOpened(name, "10.77.0.9", "fd00::9", "")
    there = replace(started(name, BOB, "bob"), host=name)
    events = [opened, there, *bind(name, BOB, "EADDRINUSE"), ended(listener(name, user=name))]
    picture = look(*events)
    drawing = draw(picture, 120)
    tree = ET.fromstring(to_file(drawing, describe(picture)))
    assert f"Host {shown}, 10.77.0.9." in tree.get("aria-label", "")
    assert not [element for element in tree.iter() if element.tag.endswith("script")]
    text = text_of(picture, 120)
    assert text.count(shown) > 2
    assert text.replace("\n", "").isprintable()


def test_a_file_stands_alone_and_has_its_title() -> None:
    tree = ET.fromstring(to_file(draw(REFUSED, 72), "Bob is refused"))
    assert tree.findtext(f"{SVG}title") == "Bob is refused"
    assert "prefers-color-scheme" in (tree.findtext(f"{SVG}style") or "")
    assert "url(" not in to_file(draw(REFUSED, 72), "")


def test_a_picture_in_words_says_who_has_the_port_and_who_was_refused() -> None:
    said = describe(REFUSED)
    assert "listener of alice/64001 on 0.0.0.0, held by alice, 0 of 128 waiting" in said
    assert "bob/64002: bind 0.0.0.0:8080: EADDRINUSE." in said
    assert "alice/64001 在 0.0.0.0 的监听套接字" in describe(REFUSED, "zh")
    assert "alice 30, bob 10" in describe(RENDERED["bars"])


def test_a_text_is_cut_at_a_whole_character() -> None:
    assert shorten("端口端口", 5) == "端口…"
    assert shorten("port", 4) == "port"
    assert shorten("port", 0) == ""


# --- every lab ----------------------------------------------------------------------------


def steps_of(lab: Lab) -> Iterator[tuple[list[Event], Picture]]:
    """The events of each step of a lab, and its picture."""
    album = Album()
    found: list[tuple[list[Event], Picture]] = []
    events: list[Event] = []

    def view(event: Event) -> None:
        album(event)
        if isinstance(event, StepStarted):
            events.clear()
        events.append(event)
        if isinstance(event, StepEnded):
            found.append(([*events], album.picture))

    run_lab(lab, FakeBackend(), Layout(None), [view])
    yield from found


@pytest.mark.parametrize("lab", find_labs(), ids=lambda lab: lab.name)
def test_every_step_of_every_lab_can_be_drawn(lab: Lab) -> None:
    steps = [*steps_of(lab)]
    assert steps
    for events, picture in steps:
        evidence = [event.evidence for event in events if isinstance(event, StepEnded)][-1]
        assert {host.host for host in evidence} <= {host.name for host in picture.hosts}
        for columns in (40, 44, 56, 72):
            drawing = draw(picture, columns, "zh")
            ET.fromstring(to_svg(drawing, describe(picture, "zh")))
            check_text(drawing)


def check_text(drawing: Drawing) -> None:
    lines = ["".join(piece.text for piece in line) for line in to_lines(drawing)]
    assert len(lines) == drawing.rows
    assert all(cell_width(line) <= drawing.columns for line in lines)
    for box in drawing.shapes:
        if isinstance(box, Box) and box.style in ("host", "group"):
            edge = box.column + box.width - 1
            for line in lines[box.row : box.row + box.height]:
                assert cell(line, edge) in "┐│┘╮┊╯", line


def cell(line: str, column: int) -> str:
    """The character in a column of cells."""
    return next(letter for n, letter in enumerate(line, 1) if cell_width(line[:n]) > column)


@pytest.mark.parametrize("lab", find_labs(), ids=lambda lab: lab.name)
def test_every_refusal_of_every_lab_is_in_its_picture(lab: Lab) -> None:
    for events, picture in steps_of(lab):
        refused = {event.errno for event in events if isinstance(event, CallMade) and event.errno}
        shown = {attempt.errno for host in picture.hosts for attempt in host.attempts}
        assert refused <= shown
