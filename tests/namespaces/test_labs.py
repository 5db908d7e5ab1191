"""Every lab on the real kernel: all steps as expected, and not when its mechanism is broken."""

import functools
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from socket import (
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SHUT_RDWR,
    SO_BINDTODEVICE,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOL_SOCKET,
)

import pytest

from labs.engine.authoring.reasons import compare_rules
from labs.engine.backends.docker.images import SERVERS
from labs.engine.backends.namespaces.backend import NamespacesBackend, open_namespaces
from labs.engine.catalogue import find_labs
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import (
    Call,
    CallMade,
    CallResult,
    Concluded,
    Event,
    Failed,
    StepEnded,
    StepStarted,
    Succeeded,
    Verdict,
)
from labs.engine.plans import HostPlan, OpenedHost, ProcessPlan, StartedProcess
from labs.engine.runner import run_lab
from labs.engine.script import Lab, Process, Socket
from tests.support import need_program

pytestmark = pytest.mark.namespaces

ROOT = Path(__file__).parents[2]
LABS = {lab.name: lab for lab in find_labs()}
# How much faster several are takes processors that are not taken by others.
NAMES = [pytest.param(name, marks=pytest.mark.alone) if name == "scale" else name for name in LABS]
SEEDS = [None, *(pytest.param(seed, marks=pytest.mark.alike) for seed in (1, 2))]
SKIPPED = {"containers": (11, 12, 13)}  # what only a backend of containers can do: publish


@pytest.fixture
def backend() -> Iterator[NamespacesBackend]:
    with open_namespaces() as backend:
        yield backend


@pytest.fixture(autouse=True)
def _server(request: pytest.FixtureRequest) -> None:
    """A lab of a real server takes that server."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    if name in SERVERS:
        need_program(name)


def steps_of(events: Sequence[Event]) -> list[StepEnded]:
    return [event for event in events if isinstance(event, StepEnded)]


def run(lab: Lab, backend: NamespacesBackend, layout: Layout) -> tuple[ExitStatus, list[StepEnded]]:
    events: list[Event] = []
    status = run_lab(lab, backend, layout, [events.append])
    return status, steps_of(events)


def differing(steps: Sequence[StepEnded]) -> list[int]:
    return [step.number for step in steps if step.verdict is Verdict.DIFFERS]


@functools.cache
def run_as_it_is(name: str, seed: int | None = None) -> tuple[ExitStatus, list[Event]]:
    """Run a lab of which nothing is changed; once, whatever is asked of that run."""
    events: list[Event] = []
    with open_namespaces() as backend:
        return run_lab(LABS[name], backend, Layout(seed), [events.append]), events


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_lab_passes(name: str, seed: int | None) -> None:
    status, events = run_as_it_is(name, seed)
    steps = steps_of(events)
    assert status is ExitStatus.PASSED
    expected = [*SKIPPED.get(name, ())]
    assert [step.number for step in steps if step.verdict is Verdict.SKIPPED] == expected
    others = {step.verdict for step in steps if step.number not in expected}
    assert others == {Verdict.PASSED}
    assert len(steps) - len(expected) > 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_steps_tell_of_the_rules_that_decide_them(name: str, seed: int | None) -> None:
    assert [*compare_rules(run_as_it_is(name, seed)[1])] == []


def test_every_step_that_bind_or_listen_decides_has_its_rule() -> None:
    """But one, whose last listen() is that of a UNIX socket."""
    found = []
    for name in LABS:
        if name in SERVERS or name == "scale":
            continue
        decided = False
        for event in run_as_it_is(name)[1]:
            match event:
                case StepStarted():
                    decided = False
                case CallMade(call=call) if call.startswith(("bind(", "listen(")):
                    decided = '"' not in call
                case StepEnded(number, Succeeded() | Failed(call="bind" | "listen")):
                    if decided and event.decision is None:
                        found.append((name, number))
    assert found == [("passing", 4)]


@pytest.mark.parametrize("name", [name for name in LABS if LABS[name].claim])
def test_a_claim_comes_to_a_conclusion(name: str) -> None:
    _, events = run_as_it_is(name)
    assert len([event for event in events if isinstance(event, Concluded)]) == 1


@pytest.mark.parametrize("name", LABS)
def test_every_step_has_evidence(name: str) -> None:
    steps = steps_of(run_as_it_is(name)[1])
    assert steps
    assert all(step.evidence for step in steps if step.verdict is not Verdict.SKIPPED)


class OneUser(Layout):
    """A layout in which Bob is Alice."""

    def uid(self, user: str) -> int:
        return super().uid("alice" if user == "bob" else user)


def test_euid_differs_where_bob_is_alice(backend: NamespacesBackend) -> None:
    status, steps = run(LABS["euid"], backend, OneUser(None))
    assert status is ExitStatus.DIFFERS
    # Whatever takes Bob for another user, and what comes of his being in the group.
    assert differing(steps) == [4, 11, 12, 15, 16, 17]


def leave_out(backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch, *option: int) -> None:
    """Let whoever sets an option set it to 0."""
    perform = backend.perform

    def without(
        process: str, calls: Sequence[Call], *, go_on: bool = False
    ) -> Sequence[CallResult]:
        harmless = [
            Call(call.name, (*call.arguments[:-1], 0))
            if call.name == "setsockopt" and call.arguments[1:3] == option
            else call
            for call in calls
        ]
        return perform(process, harmless, go_on=go_on)

    monkeypatch.setattr(backend, "perform", without)


def test_euid_differs_without_the_option(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(backend, monkeypatch, SOL_SOCKET, SO_REUSEPORT)
    status, steps = run(LABS["euid"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps)[:2] == [2, 3]


def test_dualstack_differs_without_ipv6_v6only(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(backend, monkeypatch, IPPROTO_IPV6, IPV6_V6ONLY)
    status, steps = run(LABS["dualstack"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    # The two wildcards meet, and a mapped address is no contradiction any more.
    assert differing(steps) == [3, 5, 11]


def test_dualstack_differs_where_bob_is_alice(backend: NamespacesBackend) -> None:
    status, steps = run(LABS["dualstack"], backend, OneUser(None))
    assert status is ExitStatus.DIFFERS
    # Bob is in the group, and stays when Alice's IPv4 listener goes.
    assert differing(steps) == [14, 16]


def test_userns_differs_without_maps(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_process = backend.start_process

    def without_map(plan: ProcessPlan) -> StartedProcess:
        return start_process(replace(plan, outer_uid=None))

    monkeypatch.setattr(backend, "start_process", without_map)
    status, steps = run(LABS["userns"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    # The numbers alone decide, and what needs an earlier step is left out.
    assert differing(steps) == [2, 3, 4, 7, 12, 14]


def test_containers_says_why_it_skips() -> None:
    steps = steps_of(run_as_it_is("containers")[1])
    reasons = {str(step.outcome) for step in steps if step.verdict is Verdict.SKIPPED}
    assert len(reasons) == 1
    assert "publishes no ports" in reasons.pop()


def test_containers_differs_where_bob_is_alice(backend: NamespacesBackend) -> None:
    status, steps = run(LABS["containers"], backend, OneUser(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [4]


class OneMap(Layout):
    """A layout in which a map of its own leads to the same user."""

    def uid(self, user: str) -> int:
        return super().uid(user.removesuffix("-remapped"))


def test_containers_differs_where_all_maps_are_one(backend: NamespacesBackend) -> None:
    status, steps = run(LABS["containers"], backend, OneMap(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [5]


@pytest.mark.parametrize(("start", "expected"), [(0, [7, 8]), (1024, [10])])
def test_containers_differs_where_all_hosts_have_the_same_low_ports(
    start: int,
    expected: list[int],
    backend: NamespacesBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_host = backend.open_host

    def with_start(plan: HostPlan) -> OpenedHost:
        return open_host(replace(plan, unprivileged_port_start=start))

    monkeypatch.setattr(backend, "open_host", with_start)
    status, steps = run(LABS["containers"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    # Where every port is anybody's, the second asks for one that the first has.
    assert differing(steps)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"), [((), [9]), (("CAP_NET_BIND_SERVICE",), [7, 8, 9])]
)
def test_containers_differs_where_all_have_the_same_capabilities(
    capabilities: tuple[str, ...],
    expected: list[int],
    backend: NamespacesBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_process = backend.start_process

    def with_capabilities(plan: ProcessPlan) -> StartedProcess:
        return start_process(replace(plan, capabilities=capabilities))

    monkeypatch.setattr(backend, "start_process", with_capabilities)
    status, steps = run(LABS["containers"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == expected


def test_the_lab_of_the_readme_is_complete(backend: NamespacesBackend) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    assert blocks[0].count("\n") < 45
    module = types.ModuleType("bound")
    exec(compile(blocks[0], "README.md", "exec"), vars(module))
    (lab,) = [value for value in vars(module).values() if isinstance(value, Lab)]
    status, steps = run(lab, backend, Layout(None))
    assert status is ExitStatus.PASSED
    assert [step.verdict for step in steps] == [Verdict.PASSED] * 4


@pytest.mark.parametrize(
    ("option", "expected"), [("reuseaddr", [10, 16]), ("reuseport", [3, 5, 6, 16])]
)
def test_unique_differs_where_every_listener_has_an_option(
    option: str,
    expected: list[int],
    backend: NamespacesBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listen = partialmethod(Process.listen, **{option: True})
    monkeypatch.setattr(Process, "listen", listen)
    status, steps = run(LABS["unique"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == expected


@pytest.mark.parametrize(
    ("option", "expected"),
    # Who restarts cannot, and whatever is shared by SO_REUSEPORT goes on; or the other way round.
    [(SO_REUSEADDR, [9, 11, 12, 15]), (SO_REUSEPORT, [18])],
)
def test_timewait_differs_without_an_option(
    option: int,
    expected: list[int],
    backend: NamespacesBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_out(backend, monkeypatch, SOL_SOCKET, option)
    status, steps = run(LABS["timewait"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == expected


def test_timewait_differs_where_bob_is_alice(backend: NamespacesBackend) -> None:
    status, steps = run(LABS["timewait"], backend, OneUser(None))
    assert status is ExitStatus.DIFFERS
    # Bob may share at once, and what needs that step is left out.
    assert differing(steps) == [16]


@pytest.mark.parametrize(
    ("option", "expected"),
    # Nobody gets in beside Alice, and nobody joins; or she has no group.
    [(SO_REUSEADDR, [4, 12, 13, 15, 16]), (SO_REUSEPORT, [8, 19])],
)
def test_udp_differs_without_an_option(
    option: int,
    expected: list[int],
    backend: NamespacesBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_out(backend, monkeypatch, SOL_SOCKET, option)
    status, steps = run(LABS["udp"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == expected


def test_reuseaddr_differs_without_the_option(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(backend, monkeypatch, SOL_SOCKET, SO_REUSEADDR)
    status, steps = run(LABS["reuseaddr"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps)[:1] == [1]


def test_reuseaddr_differs_where_bob_is_alice(backend: NamespacesBackend) -> None:
    status, steps = run(LABS["reuseaddr"], backend, OneUser(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [11]


def test_device_differs_where_all_are_on_one_device(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    setsockopt = Socket.setsockopt

    def on_loopback(socket: Socket, level: int, option: int, value: int | str) -> None:
        setsockopt(socket, level, option, "lo" if option == SO_BINDTODEVICE else value)

    monkeypatch.setattr(Socket, "setsockopt", on_loopback)
    status, steps = run(LABS["device"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [1, 3, 4, 6]


def test_reuseport_differs_without_the_option(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(backend, monkeypatch, SOL_SOCKET, SO_REUSEPORT)
    status, steps = run(LABS["reuseport"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [2]


def test_passing_differs_where_exec_closes_the_listener(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Socket, "set_inheritable", lambda *_: None)
    status, steps = run(LABS["passing"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [1]


def test_herd_differs_where_all_wait_by_epoll(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Socket.serve

    def by_epoll(socket: Socket, way: str = "epoll", *, pause: int = 0) -> None:
        serve(socket, "epoll", pause=pause)

    monkeypatch.setattr(Socket, "serve", by_epoll)
    status, steps = run(LABS["herd"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    # Blocking accept(), EPOLLEXCLUSIVE and the lock; whose shares are equal is chance now.
    assert {1, 5, 6} <= {*differing(steps)} <= {1, 2, 5, 6}


def test_fork_differs_where_all_wait_by_epoll_exclusively(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Socket.serve

    def exclusively(socket: Socket, way: str = "epoll", *, pause: int = 0) -> None:
        serve(socket, "exclusive", pause=pause)

    monkeypatch.setattr(Socket, "serve", exclusively)
    status, steps = run(LABS["fork"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    # The first that was added is woken every time: no rotation.
    assert differing(steps) == [7]


def test_balance_differs_without_a_program(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Socket, "attach_reuseport_cbpf", lambda *_: None)
    status, steps = run(LABS["balance"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert 7 in differing(steps)
    assert {*differing(steps)} <= {7, 8}


def without_migration(backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what waits on a host die with its listener, whatever its plan says."""
    open_host = backend.open_host

    def open_as_usual(plan: HostPlan) -> OpenedHost:
        return open_host(replace(plan, tcp_migrate_req=False))

    monkeypatch.setattr(backend, "open_host", open_as_usual)


@pytest.mark.parametrize(("name", "step"), [("restart", 5), ("crash", 5)])
def test_what_waits_is_lost_without_migration(
    name: str, step: int, backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_migration(backend, monkeypatch)
    status, steps = run(LABS[name], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [step]


def test_restart_differs_where_the_old_server_closes_what_it_hands_over(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_fds = Socket.send_fds

    def send_and_shut_down(socket: Socket, passed: Socket) -> None:
        send_fds(socket, passed)
        passed.shutdown(SHUT_RDWR)

    monkeypatch.setattr(Socket, "send_fds", send_and_shut_down)
    status, steps = run(LABS["restart"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [8]


def test_netns_differs_where_nobody_moves(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Process, "unshare_network", lambda _: None)
    monkeypatch.setattr(Process, "return_to_network", lambda _: None)
    status, steps = run(LABS["netns"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [6, 7]


@pytest.mark.alone
def test_scale_differs_where_several_are_far_slower_than_one(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Socket.serve

    def slowly(socket: Socket, way: str = "epoll", *, pause: int = 0) -> None:
        serve(socket, way, pause=pause if "alone" in socket.process.name else pause + 20_000)

    monkeypatch.setattr(Socket, "serve", slowly)
    status, steps = run(LABS["scale"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [2, 3, 4]
