"""Pictures of runs on a real kernel: what they show is what the kernel said."""

import pytest

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.catalogue import find_labs
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import OUTCOMES, Event, Quantity, StepEnded
from labs.engine.pictures.album import Album
from labs.engine.pictures.chart import Bars, Course, Strips
from labs.engine.pictures.scene import Picture
from labs.engine.runner import run_lab

pytestmark = pytest.mark.namespaces

LABS = {lab.name: lab for lab in find_labs()}


def run(name: str) -> dict[int, tuple[StepEnded, Picture]]:
    """The end of each step of a lab on this kernel, and its picture."""
    album = Album()
    found: dict[int, tuple[StepEnded, Picture]] = {}

    def view(event: Event) -> None:
        album(event)
        if isinstance(event, StepEnded):
            found[event.number] = event, album.picture

    with open_namespaces() as backend:
        assert run_lab(LABS[name], backend, Layout(None), [view]) is ExitStatus.PASSED
    return found


def test_the_group_that_a_picture_frames_is_the_kernels() -> None:
    _, picture = run("euid")[4]
    (server,) = picture.hosts
    (door,) = server.doors
    assert {queue.owner for queue in door.queues} == {"alice"}
    assert len({queue.group for queue in door.queues}) == 1
    (bobs,) = server.attempts
    assert (bobs.figure.name, bobs.errno) == ("bob", "EADDRINUSE")


def test_a_user_namespace_is_seen_by_its_two_uids() -> None:
    _, picture = run("userns")[2]
    (attempt,) = picture.hosts[0].attempts
    figure = attempt.figure
    assert figure.name == "carol-as-alice"
    assert figure.inner is not None
    assert figure.uid is not None
    assert figure.inner != figure.uid


@pytest.mark.alone
def test_every_request_of_a_restart_is_in_its_timeline() -> None:
    steps = run("restart")
    courses = 0
    for event, picture in steps.values():
        quantity = event.outcome
        if not isinstance(quantity, Quantity):
            continue
        chart = picture.chart
        assert isinstance(chart, Course)
        courses += 1
        sums = {outcome: sum(chart.counts(outcome)) for outcome in OUTCOMES}
        assert sums == dict(quantity.parts)
    assert courses == 7
    check_gap(steps[2][1])


def check_gap(picture: Picture) -> None:
    """Between the end of the old server and the beginning of the new one requests were refused."""
    chart = picture.chart
    assert isinstance(chart, Course)
    old, new = chart.lives
    assert (old.name, new.name) == ("old", "new")
    assert old.ended is not None
    assert new.begun is not None
    assert old.ended < new.begun
    width = chart.timeline.width
    refused = [slot * width for slot, count in enumerate(chart.counts("refused")) if count]
    # A slot is as exact as it is wide; so is the moment at which the load began.
    assert refused[0] >= old.ended - 3 * width
    assert refused[-1] <= new.begun + 3 * width


def test_a_herd_has_a_strip_for_each_worker_and_shares_a_band() -> None:
    for event, picture in run("herd").values():
        quantity = event.outcome
        assert isinstance(quantity, Quantity)
        if quantity.what == "wake-ups":
            assert isinstance(picture.chart, Strips)
            assert len(picture.chart.strips) == 8
            assert sum(count for _, count in picture.chart.strips) == quantity.value
    _, picture = run("reuseport")[9]
    chart = picture.chart
    assert isinstance(chart, Bars)
    assert chart.band is not None
    assert sum(count for _, count in chart.bars) == 40
