"""The lab gunicorn on the real kernel: as expected, and not when its mechanism is broken."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from labs.engine.backends.namespaces.backend import NamespacesBackend, open_namespaces
from labs.engine.catalogue import find_labs
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import Concluded, Event, Finding, Quantity, RunEnded, StepEnded, Verdict
from labs.engine.plans import HostPlan, OpenedHost
from labs.engine.runner import run_lab
from labs.engine.script import HTTP_GET, Run, exactly
from labs.engine.session import Session
from labs.engine.spawned import find_program
from labs.gunicorn import lab as script

pytestmark = [pytest.mark.namespaces, pytest.mark.alike]

(LAB,) = (lab for lab in find_labs() if lab.name == "gunicorn")
STEPS = 12
RELOADS = 20
FEWEST = 20_000  # requests under which they happen

# The workers wait in an epoll instance with EPOLLEXCLUSIVE (1 << 28), each in one of its own.
EXCLUSIVE = """
import select
from gunicorn.workers.sync import SyncWorker

def wait(self, timeout):
    self.notify()
    if not hasattr(self, "poll"):
        self.poll = select.epoll()
        self.poll.register(self.sockets[0], select.EPOLLIN | 1 << 28)
        self.poll.register(self.PIPE[0], select.EPOLLIN)
    self.poll.poll(timeout)

SyncWorker.wait = wait
"""

# Each worker binds a socket of its own, as those of a later gunicorn do.
APART = """
import gc, os
from gunicorn import sock
from gunicorn.workers.sync import SyncWorker

workers = [found for found in gc.get_objects() if isinstance(found, SyncWorker)]
(worker,) = [worker for worker in workers if worker.pid == os.getpid()]
if worker.cfg.reuse_port:
    worker.sockets = sock.create_sockets(worker.cfg, worker.log)
    worker.wait_fds = [*worker.sockets, worker.PIPE[0]]
"""

# TERM ends a worker in the middle of what it is at, and that takes a while.
IMPATIENT = """
import os, signal, time

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
plain = application

def application(environ, start_response):
    time.sleep(0.005)
    return plain(environ, start_response)
"""


@pytest.fixture(autouse=True)
def _programs() -> None:
    """Skip where a program is missing; in CI, which has to have it, the test fails."""
    for program in ("gunicorn", "curl"):
        try:
            find_program(program)
        except FileNotFoundError:
            reason = f"{program} is not installed here."
            if os.environ.get("CI"):
                pytest.fail(f"CI has to run this: {reason}", pytrace=False)
            pytest.skip(reason)


@pytest.fixture
def backend() -> Iterator[NamespacesBackend]:
    with open_namespaces() as backend:
        yield backend


def run(
    backend: NamespacesBackend, layout: Layout | None = None
) -> tuple[ExitStatus, dict[int, StepEnded], list[Event]]:
    """Run the lab: its status, its steps by number, and all of its events."""
    events: list[Event] = []
    status = run_lab(LAB, backend, layout or Layout(None), [events.append])
    return status, {event.number: event for event in events if isinstance(event, StepEnded)}, events


def differing(steps: dict[int, StepEnded]) -> list[int]:
    return [step.number for step in steps.values() if step.verdict is Verdict.DIFFERS]


def measured(step: StepEnded) -> float:
    assert isinstance(step.outcome, Quantity)
    return step.outcome.value


def change_application(monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    """Let every gunicorn of the lab load this after its application."""
    monkeypatch.setattr(script, "APPLICATION", script.APPLICATION + more)


@pytest.mark.parametrize("seed", [3, 4])
def test_all_steps_are_as_expected(seed: int, backend: NamespacesBackend) -> None:
    status, steps, events = run(backend, Layout(seed))
    assert status is ExitStatus.PASSED
    assert len(steps) == STEPS
    assert {step.verdict for step in steps.values()} == {Verdict.PASSED}
    (concluded,) = (event for event in events if isinstance(event, Concluded))
    assert concluded.finding is Finding.REFUTED
    assert [measured(steps[number]) for number in (1, 7, 10)] == [5, 1, 2]
    # Nothing is lost where the listener lives on, and something where it does not.
    assert [measured(steps[number]) for number in (4, 12)] == [0, 0]
    assert measured(steps[11]) > 0
    assert measured(steps[6]) >= script.SOME


# --- the mechanism, broken ----------------------------------------------------------------


def test_no_herd_where_workers_wait_exclusively(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_application(monkeypatch, EXCLUSIVE)
    status, steps, _ = run(backend)
    assert status is ExitStatus.DIFFERS
    # Who alone is woken, and ends before it accepts, has woken nobody in its place: a request may
    # wait in vain.
    assert {2, 8} <= {*differing(steps)} <= {2, 4, 8, 12}
    assert measured(steps[2]) == 0


def test_queues_of_their_own_where_workers_bind(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_application(monkeypatch, APART)
    status, steps, _ = run(backend)
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [7]
    assert measured(steps[7]) > 1
    left_out = [step.number for step in steps.values() if step.verdict is Verdict.SKIPPED]
    assert left_out == [8, 9, 10, 11, 12]


class OneUser(Layout):
    """A layout in which Carol is Alice."""

    def uid(self, user: str) -> int:
        return super().uid("alice" if user == "carol" else user)


def test_carol_joins_where_she_is_alice(backend: NamespacesBackend) -> None:
    status, steps, _ = run(backend, OneUser(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [9]


def test_nothing_is_reset_where_the_kernel_moves_what_waits(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_host = backend.open_host

    def open_migrating(plan: HostPlan) -> OpenedHost:
        return open_host(replace(plan, tcp_migrate_req=True))

    monkeypatch.setattr(backend, "open_host", open_migrating)
    status, steps, _ = run(backend)
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [11]


def test_reloads_lose_where_workers_do_not_finish(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_application(monkeypatch, IMPATIENT)
    status, steps, _ = run(backend)
    assert status is ExitStatus.DIFFERS
    assert {4, 5} <= {*differing(steps)} <= {4, 5, 12}


# --- reloads, many and under much ---------------------------------------------------------


def test_many_reloads_lose_nothing(backend: NamespacesBackend) -> None:
    run_ = Run(Session(backend, Layout(None), lambda _event: None))
    host, elsewhere = run_.host("server"), run_.host("elsewhere")
    client = elsewhere.process("client", user="bob")
    plan = script.Plan("many", run_.port(8080))
    with run_.step("Many reloads", expect=exactly(0, "lost"), why="-") as step:
        server = script.start(script.prepare(host, plan), plan)
        answered = reloads = 0
        while reloads < RELOADS or answered < FEWEST:
            # One load is bounded; so are the requests in it.
            client.load(server.address, 50_000, clients=script.WORKERS + 4, words=HTTP_GET)
            for _ in range(4):
                client.wait_for_requests(400)
                server.reload()
                reloads += 1
            answers = client.stop_load(after=400)
            assert answers.lost == 0, answers
            answered += answers.answered
        step.measured(0)


# --- where it cannot be as expected -------------------------------------------------------


def test_an_application_that_cannot_be_loaded_is_a_fault(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "APPLICATION", "import module_that_is_nowhere\n")
    status, steps, events = run(backend)
    assert status is ExitStatus.FAILED
    assert [step.verdict for step in steps.values()] == [Verdict.FAILED]
    (ended,) = (event for event in events if isinstance(event, RunEnded))
    assert "gunicorn-shared has ended with status" in ended.error
    assert "failed to boot" in ended.hint


def test_a_gunicorn_whose_workers_bind_leaves_steps_out(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "BOUND_APART", 1)
    status, steps, _ = run(backend)
    left_out = [step.number for step in steps.values() if step.verdict is Verdict.SKIPPED]
    assert status is not ExitStatus.DIFFERS
    assert left_out == [7, 8, 9, 10, 11, 12]
    assert differing(steps) == []


def test_without_gunicorn_every_step_says_so(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(program: str) -> str:
        raise FileNotFoundError(program)

    monkeypatch.setattr("labs.engine.backends.namespaces.backend.find_program", find)
    _, steps, _ = run(backend)
    assert len(steps) == STEPS
    assert {step.verdict for step in steps.values()} == {Verdict.SKIPPED}
    assert {"gunicorn is not installed" in str(step.outcome) for step in steps.values()} == {True}
