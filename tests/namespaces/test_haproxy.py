"""HAProxy as the lab drives it: what breaks its steps, its own words, and many reloads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from labs.engine import spawned
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import RunEnded, Skipped, Verdict
from labs.engine.runner import run_lab
from labs.engine.script import Host, Process, Program, Run
from labs.haproxy import lab as script
from tests.namespaces.test_labs import LABS, backend, differing, run
from tests.reloads import check_reloads, reload_often, start_haproxy
from tests.support import need_program

if TYPE_CHECKING:
    from labs.engine.backends.namespaces.backend import NamespacesBackend
    from labs.engine.model import Event

__all__ = ["backend"]

pytestmark = [pytest.mark.namespaces, pytest.mark.alike]


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    need_program("haproxy")


def test_reloads_differ_where_nothing_waits(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for all, nobody is in the queue that is closed."""
    monkeypatch.setattr(script, "ALONE", 100)
    monkeypatch.setattr(Run, "wait_for_queues", lambda *_: {})
    status, steps = run(LABS["haproxy"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [2]


def test_it_differs_where_the_listener_is_not_passed(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = Process.spawn

    def without_x(process: Process, name: str, program: str, *arguments: str) -> Program:
        end = arguments.index("-x") if "-x" in arguments else None
        return spawn(process, name, program, *arguments[:end])

    monkeypatch.setattr(Process, "spawn", without_x)
    monkeypatch.setattr(script, "ask_as_another", lambda *_: None)
    status, steps = run(LABS["haproxy"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [3, 4]


def test_it_differs_where_nothing_migrates(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = backend.open_host
    monkeypatch.setattr(
        backend, "open_host", lambda plan: opened(replace(plan, tcp_migrate_req=False))
    )
    status, steps = run(LABS["haproxy"], backend, Layout(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [5]


def test_it_differs_where_bob_is_alice(backend: NamespacesBackend) -> None:
    class OneUser(Layout):
        def uid(self, user: str) -> int:
            return super().uid("alice" if user == "bob" else user)

    status, steps = run(LABS["haproxy"], backend, OneUser(None))
    assert status is ExitStatus.DIFFERS
    assert differing(steps) == [6, 7]


def test_without_haproxy_every_step_is_skipped(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawned, "PROGRAM_FOLDERS", ())
    status, steps = run(LABS["haproxy"], backend, Layout(None))
    assert status is ExitStatus.CANNOT_RUN
    assert {step.verdict for step in steps} == {Verdict.SKIPPED}
    assert len(steps) == 8
    assert isinstance(steps[0].outcome, Skipped)
    assert steps[0].outcome.reason == "haproxy is not installed here."


def failing(text: str, backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch) -> RunEnded:
    """The end of a run whose HAProxy cannot start."""
    monkeypatch.setattr(script, "CONFIGURATION", text)
    events: list[Event] = []
    assert run_lab(LABS["haproxy"], backend, Layout(None), [events.append]) is ExitStatus.FAILED
    assert isinstance(events[-1], RunEnded)
    return events[-1]


def test_a_configuration_error_is_shown_in_its_own_words(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = failing("global\n    frobnicate\n", backend, monkeypatch)
    assert "haproxy-beside has ended with status 1" in end.error
    assert "unknown keyword 'frobnicate'" in end.hint


def test_a_port_in_use_is_shown_in_its_own_words(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = script.start

    def start_late(host: Host, plan: script.Plan) -> script.Server:
        host.process("first", user="alice").listen(plan.port)
        return start(host, plan)

    monkeypatch.setattr(script, "start", start_late)
    end = failing(script.CONFIGURATION, backend, monkeypatch)
    assert "Address already in use" in end.hint


def test_twenty_reloads_lose_none_of_twenty_thousand_requests(backend: NamespacesBackend) -> None:
    many, found = reload_often(start_haproxy)
    assert run(many, backend, Layout(None))[0] is ExitStatus.PASSED
    check_reloads(found)
