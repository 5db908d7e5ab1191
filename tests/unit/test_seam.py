"""What a script asks of a backend, and how it is told what a backend refuses or cannot do."""

import errno
from collections.abc import Callable

import pytest

from labs.engine.backend import PublicationRefused
from labs.engine.backends.fake import FakeBackend
from labs.engine.capabilities import CAPABILITIES, capability_mask, capability_names
from labs.engine.errors import ExitStatus, Unsupported
from labs.engine.layout import Layout
from labs.engine.model import (
    ENGINE,
    CallMade,
    Event,
    HostOpened,
    ProcessStarted,
    RunEnded,
    StepEnded,
    StepStarted,
    Verdict,
)
from labs.engine.plans import HostPlan, OpenedHost, ProcessPlan, StartedProcess
from labs.engine.runner import plan_only, run_lab
from labs.engine.script import EACCES, EADDRINUSE, OK, Run, exactly, lab, publication

FIRST_PORT = 49_153
Body = Callable[[Run], None]


class PublishingBackend(FakeBackend):
    """A fake that keeps a book of the machine's ports; another program has those that are held."""

    name = "publishing"

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[HostPlan | ProcessPlan] = []
        self._book: set[int] = set()

    def open_host(self, plan: HostPlan) -> OpenedHost:
        self.plans.append(plan)
        if plan.publication is None:
            return super().open_host(plan)
        port = plan.publication.machine_port or FIRST_PORT + len(self._book)
        if port in self._book:
            reason = "port is already allocated"
            raise PublicationRefused(errno.EADDRINUSE, "allocate", reason, port)
        if plan.publication.held:
            raise PublicationRefused(errno.EADDRINUSE, "bind", "address already in use", port)
        self._book.add(port)
        super().open_host(
            HostPlan(plan.name, plan.ipv4, plan.ipv4_prefix, plan.ipv6, plan.ipv6_prefix)
        )
        return OpenedHost(port)

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        self.plans.append(plan)
        return super().start_process(plan)


class PlainBackend(FakeBackend):
    """A fake that has no user namespaces of its own."""

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        if plan.outer_uid is not None:
            raise Unsupported("No maps here.", "Elsewhere there are.")
        return super().start_process(plan)


def run_body(body: Body, backend: FakeBackend | None = None) -> list[Event]:
    events: list[Event] = []
    trial = lab("trial", title="A lab of the tests")(body)
    run_lab(trial, backend or PublishingBackend(), Layout(None), [events.append])
    return events


def calls(events: list[Event]) -> list[CallMade]:
    return [event for event in events if isinstance(event, CallMade)]


def steps(events: list[Event]) -> list[tuple[str, Verdict]]:
    found = [event for event in events if isinstance(event, StepEnded)]
    return [(str(event.outcome), event.verdict) for event in found]


def end(events: list[Event]) -> RunEnded:
    assert isinstance(events[-1], RunEnded)
    return events[-1]


# --- capabilities -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bit"),  # as in include/uapi/linux/capability.h
    [
        ("CAP_CHOWN", 0),
        ("CAP_SETUID", 7),
        ("CAP_NET_BIND_SERVICE", 10),
        ("CAP_SYS_PTRACE", 19),
        ("CAP_AUDIT_WRITE", 29),
        ("CAP_MAC_OVERRIDE", 32),
        ("CAP_CHECKPOINT_RESTORE", 40),
    ],
)
def test_a_capability_has_its_bit(name: str, bit: int) -> None:
    assert capability_mask([name]) == 1 << bit
    assert capability_names(1 << bit) == (name,)


def test_capabilities_come_back_from_their_mask() -> None:
    assert capability_mask([]) == 0
    assert capability_names(0) == ()
    assert capability_names(capability_mask(reversed(CAPABILITIES))) == CAPABILITIES
    assert capability_names(1 | 1 << 63) == ("CAP_CHOWN", "63")


@pytest.mark.parametrize("name", ["CAP_NOPE", "cap_chown", "CHOWN", "CAP_CHOWN "])
def test_a_name_that_is_no_capability(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        capability_mask(["CAP_CHOWN", name])

    def body(run: Run) -> None:
        run.host("server").process("root", user="root", capabilities=[name])

    ended = end(run_body(body))
    assert ended.status == ExitStatus.FAILED
    assert f"no capability {name}" in ended.error
    assert f"{__file__}:" in ended.error


def test_a_plan_has_what_the_script_names() -> None:
    backend = PublishingBackend()

    def body(run: Run) -> None:
        server = run.host("server", unprivileged_port_start=80)
        server.process("manager", user="root", capabilities=["CAP_CHOWN", "CAP_SETUID"])
        server.process("alice", user="alice")
        server.process("other", user="alice", outer="alice-remapped")
        server.process("another", user="alice", outer="alice-remapped")

    run_body(body, backend)
    host, *processes = backend.plans
    assert isinstance(host, HostPlan)
    assert (host.unprivileged_port_start, host.publication) == (80, None)
    assert processes == [
        ProcessPlan("manager", "server", 0, ("CAP_CHOWN", "CAP_SETUID")),
        ProcessPlan("alice", "server", 64_001),
        ProcessPlan("other", "server", 64_001, (), 64_003),
        ProcessPlan("another", "server", 64_001, (), 64_003),
    ]


def test_root_has_no_capability_that_is_not_named() -> None:
    def body(run: Run) -> None:
        root = run.host("server").process("root", user="root")
        with run.step("a low port", expect=EACCES.by("bind"), why="?"):
            root.listen(80)

    assert end(run_body(body)).status == ExitStatus.PASSED


# --- a user namespace of its own ----------------------------------------------------------


def test_evidence_names_the_user_outside() -> None:
    def body(run: Run) -> None:
        remapped = run.host("server").process("remapped", user="alice", outer="alice-remapped")
        with run.step("listen", expect=OK, why="?"):
            remapped.listen(8080)
            remapped.fork("child").listen(8081)

    events = run_body(body)
    started = [event for event in events if isinstance(event, ProcessStarted)]
    assert [event.user for event in started] == ["alice-remapped"] * 2
    assert {event.credentials.effective for event in started} == {64_001}
    assert {call.uid for call in calls(events)} == {64_001}
    (evidence,) = next(event for event in events if isinstance(event, StepEnded)).evidence
    assert [(row.user, row.row.uid) for row in evidence.sockets] == [("alice-remapped", 64_003)] * 2
    assert {process.credentials.effective for process in evidence.processes} == {64_003}


# --- publications -------------------------------------------------------------------------


def test_a_publication_is_a_call_of_its_step() -> None:
    ports: list[int] = []

    def body(run: Run) -> None:
        with run.step("publish", expect=OK, why="?"):
            ports.append(run.host("web", publish=publication(8080)).machine_port)
        ports.append(run.host("other").machine_port)

    events = run_body(body)
    assert steps(events) == [("OK", Verdict.PASSED)]
    assert ports == [FIRST_PORT, 0]
    shown = f"publish(127.0.0.1:{FIRST_PORT}, 10.77.0.2:8080)"
    assert calls(events) == [CallMade(ENGINE, 0, shown, "0", "")]
    (ended,) = [event for event in events if isinstance(event, StepEnded)]
    assert [evidence.host for evidence in ended.evidence] == ["web"]


def test_a_publication_that_is_refused_is_an_outcome() -> None:
    def body(run: Run) -> None:
        with run.step("publish", expect=OK, why="?"):
            web = run.host("web", publish=publication(8080))
        with run.step("again", expect=EADDRINUSE.by("allocate"), why="?"):
            run.host("web-2", publish=publication(8080, machine_port=web.machine_port))
        with run.step("held", expect=EADDRINUSE.by("bind"), why="?"):
            run.host("web-3", publish=publication(8080, machine_port=5000, held=True))
        with run.step("not as expected", expect=EADDRINUSE.by("allocate"), why="?"):
            run.host("web-4", publish=publication(8080, held=True))

    events = run_body(body)
    assert steps(events) == [
        ("OK", Verdict.PASSED),
        ("EADDRINUSE from allocate()", Verdict.PASSED),
        ("EADDRINUSE from bind()", Verdict.PASSED),
        ("EADDRINUSE from bind()", Verdict.DIFFERS),
    ]
    assert [(call.process, call.call, call.result, call.errno) for call in calls(events)[1:]] == [
        (
            ENGINE,
            f"publish(127.0.0.1:{FIRST_PORT}, 10.77.0.3:8080)",
            "-1 EADDRINUSE (port is already allocated)",
            "EADDRINUSE",
        ),
        (
            ENGINE,
            "publish(127.0.0.1:5000, 10.77.0.4:8080)",
            "-1 EADDRINUSE (address already in use)",
            "EADDRINUSE",
        ),
        (
            ENGINE,
            f"publish(127.0.0.1:{FIRST_PORT + 1}, 10.77.0.5:8080)",
            "-1 EADDRINUSE (address already in use)",
            "EADDRINUSE",
        ),
    ]
    opened = [event.host for event in events if isinstance(event, HostOpened)]
    assert opened == ["web"]


def outside(run: Run) -> None:
    run.host("web", publish=publication(8080))


def no_port(run: Run) -> None:
    with run.step("publish", expect=OK, why="?"):
        run.host("web", publish=publication(0))


def no_machine_port(run: Run) -> None:
    with run.step("publish", expect=OK, why="?"):
        run.host("web", publish=publication(80, machine_port=65_536))


def no_start(run: Run) -> None:
    run.host("web", unprivileged_port_start=32_769)


def namesake(run: Run) -> None:
    run.host("web").process(ENGINE, user="alice")


@pytest.mark.parametrize("body", [outside, no_port, no_machine_port, no_start, namesake])
def test_a_script_that_asks_for_what_cannot_be(body: Body) -> None:
    ended = end(run_body(body))
    assert ended.status == ExitStatus.FAILED
    assert f"{__file__}:" in ended.error


# --- what a backend cannot do -------------------------------------------------------------


def three_steps(run: Run) -> None:
    """The first step is possible everywhere; the third uses what the second makes."""
    alice = run.host("server").process("alice", user="alice")
    with run.step("listen", expect=OK, why="?"):
        alice.listen(8080)
    with run.step("publish", expect=OK, why="?") as published:
        web = run.host("web", publish=publication(8080))
    with run.step("again", expect=EADDRINUSE, why="?") as step:
        step.needs(published)
        run.host("web-2", publish=publication(8080, machine_port=web.machine_port))


def test_a_step_that_the_backend_cannot_do_is_skipped_with_what_needs_it() -> None:
    events = run_body(three_steps, FakeBackend())
    reason = "The fake backend publishes no ports: there is nothing to reach."
    assert steps(events) == [
        ("OK", Verdict.PASSED),
        (reason, Verdict.SKIPPED),
        (reason, Verdict.SKIPPED),
    ]
    assert (end(events).status, end(events).error) == (ExitStatus.PASSED, "")


def test_where_nothing_is_skipped_what_is_needed_is_there() -> None:
    assert [verdict for _, verdict in steps(run_body(three_steps))] == [Verdict.PASSED] * 3


def test_a_plan_shows_the_steps_that_would_be_skipped() -> None:
    events: list[Event] = []
    status = run_lab(
        lab("trial", title="?")(three_steps),
        FakeBackend(),
        Layout(None),
        [plan_only(events.append)],
    )
    assert status is ExitStatus.PASSED
    started = [event for event in events if isinstance(event, StepStarted)]
    assert [str(event.expected) for event in started] == ["OK", "OK", "EADDRINUSE"]


def test_a_step_that_needs_one_that_went_otherwise_is_skipped() -> None:
    def body(run: Run) -> None:
        alice = run.host("server").process("alice", user="alice")
        with run.step("a low port", expect=OK, why="?") as first:
            listener = alice.listen(80)
        with run.step("close", expect=OK, why="?") as step:
            step.needs(first)
            listener.close()
        with run.step("measure", expect=exactly(0, "sockets"), why="?") as step:
            step.needs(first)
            step.measured(0)

    events = run_body(body)
    reason = "it needs step 1, which was otherwise"
    assert [outcome for outcome, _ in steps(events)[1:]] == [reason] * 2
    assert [verdict for _, verdict in steps(events)[1:]] == [Verdict.SKIPPED] * 2
    assert end(events).status == ExitStatus.DIFFERS


def test_a_step_that_forgets_what_it_needs_is_skipped_and_not_broken() -> None:
    def body(run: Run) -> None:
        alice = run.host("server").process("alice", user="alice")
        with run.step("publish", expect=OK, why="?"):
            web = run.host("web", publish=publication(8080))
        with run.step("again", expect=EADDRINUSE, why="?"):
            run.host("web-2", publish=publication(8080, machine_port=web.machine_port))
        with run.step("listen", expect=OK, why="?"):
            alice.listen(8080)

    events = run_body(body, FakeBackend())
    verdicts = [verdict for _, verdict in steps(events)]
    assert verdicts == [Verdict.SKIPPED, Verdict.SKIPPED, Verdict.PASSED]
    assert end(events).status == ExitStatus.PASSED


def test_an_unset_variable_is_a_fault_where_nothing_was_skipped() -> None:
    def body(run: Run) -> None:
        with run.step("too early", expect=OK, why="?"):
            port = port + 1  # type: ignore[has-type]  # noqa: F821, F841

    assert end(run_body(body)).status == ExitStatus.FAILED


def test_outside_of_a_step_the_lab_cannot_run() -> None:
    def body(run: Run) -> None:
        run.host("server").process("remapped", user="alice", outer="alice-remapped")

    ended = end(run_body(body, PlainBackend()))
    expected = (ExitStatus.CANNOT_RUN, "No maps here.", "Elsewhere there are.")
    assert (ended.status, ended.error, ended.hint) == expected


def test_inside_of_a_step_it_is_skipped() -> None:
    def body(run: Run) -> None:
        server = run.host("server")
        with run.step("remapped", expect=OK, why="?"):
            server.process("remapped", user="alice", outer="alice-remapped").listen(8080)
        with run.step("not", expect=OK, why="?"):
            server.process("alice", user="alice").listen(8080)

    events = run_body(body, PlainBackend())
    assert steps(events) == [("No maps here.", Verdict.SKIPPED), ("OK", Verdict.PASSED)]
    assert end(events).status == ExitStatus.PASSED
