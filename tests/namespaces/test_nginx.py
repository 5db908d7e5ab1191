"""The lab nginx with the machine's nginx: as expected, not when broken, and where it cannot run."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from signal import SIGQUIT
from typing import TYPE_CHECKING

import pytest

from labs.engine import spawned
from labs.engine.backends.namespaces.backend import NamespacesBackend, open_namespaces
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import Concluded, RunEnded, Skipped, StepEnded, Verdict
from labs.engine.runner import run_lab
from labs.engine.script import Lab, Process
from labs.nginx import lab as script
from tests.reloads import check_reloads, reload_often, start_nginx
from tests.support import need_program
from tests.support import run as run_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.model import Event
    from labs.engine.plans import HostPlan, OpenedHost, ProcessPlan, StartedProcess
    from labs.engine.script import Child, Host, Run
    from labs.nginx.lab import Plan, Server

pytestmark = [pytest.mark.namespaces, pytest.mark.alike]

STEPS = [*range(1, 17)]


@pytest.fixture(autouse=True)
def _nginx() -> None:
    need_program("nginx")


@pytest.fixture
def backend() -> Iterator[NamespacesBackend]:
    with open_namespaces() as backend:
        yield backend


class Result:
    """What came of a run."""

    def __init__(self, lab: Lab, backend: NamespacesBackend, seed: int | None = None) -> None:
        self.events: list[Event] = []
        self.status = run_lab(lab, backend, Layout(seed), [self.events.append])

    @property
    def end(self) -> RunEnded:
        """How it ended."""
        (end,) = (event for event in self.events if isinstance(event, RunEnded))
        return end

    @property
    def conclusions(self) -> list[Concluded]:
        return [event for event in self.events if isinstance(event, Concluded)]

    def steps(self, verdict: Verdict) -> list[int]:
        """The numbers of the steps that ended so."""
        return [
            event.number
            for event in self.events
            if isinstance(event, StepEnded) and event.verdict is verdict
        ]

    def check_differing(self, *steps: int) -> None:
        """These steps differ and no others, and all were come to."""
        assert self.steps(Verdict.DIFFERS) == [*steps]
        assert self.steps(Verdict.PASSED) == [step for step in STEPS if step not in steps]
        assert self.status is ExitStatus.DIFFERS
        assert self.conclusions == []


def run(backend: NamespacesBackend, seed: int | None = None) -> Result:
    return Result(script.nginx, backend, seed)


# --- not when its mechanism is broken -----------------------------------------------------


def configure(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Let every nginx be configured otherwise."""
    assert script.CONFIGURATION.count(old) == 1
    monkeypatch.setattr(script, "CONFIGURATION", script.CONFIGURATION.replace(old, new))


def test_it_differs_where_reuseport_is_ignored(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, "{port}{reuseport}", "{port}")
    done = run(backend)
    # One listener, nobody joins, and no queue is closed; whether shares in turns look like chance
    # is chance.
    assert {6, 10, 14} <= {*done.steps(Verdict.DIFFERS)} <= {6, 8, 10, 14}
    assert done.status is ExitStatus.DIFFERS


def restart(server: Server) -> None:
    """Stop, and start again: what a reload is not."""
    server.end()
    name = server.master.name.removesuffix("-again")
    path = f"/tmp/{name.removeprefix('nginx-')}.conf"
    again = server.starter.spawn(f"{name}-again", "nginx", "-e", "stderr", "-c", path)
    again.wait_until(lambda: len(again.children()) == script.WORKERS, "its workers")
    vars(server)["master"] = again


def test_it_differs_where_a_reload_is_a_stop_and_a_start(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RELOADS", 1)
    monkeypatch.setattr(script.Server, "reload", restart)
    run(backend).check_differing(11, 12)


def test_it_differs_where_the_program_is_replaced_by_a_stop_and_a_start(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_and_start(run: Run, starter: Process, old: Child) -> None:
        starter.send_signal(old, SIGQUIT)
        run.wait_until(lambda: not starter.list_children(old), "the old master is gone")
        path = "/tmp/upgraded.conf"
        starter.spawn("new", "nginx", "-e", "stderr", "-c", path).succeed()

    monkeypatch.setattr(script, "replace_program", stop_and_start)
    done = run(backend)
    assert done.steps(Verdict.DIFFERS) == [15]
    assert done.steps(Verdict.SKIPPED) == [16]
    assert done.status is ExitStatus.DIFFERS


def test_it_differs_where_the_second_nginx_is_roots(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_process = backend.start_process

    def as_root(plan: ProcessPlan) -> StartedProcess:
        if plan.name == "second":
            plan = replace(plan, uid=0, capabilities=script.CAPABILITIES)
        return start_process(plan)

    monkeypatch.setattr(backend, "start_process", as_root)
    run(backend).check_differing(9)


def test_it_differs_where_a_reload_asks_for_as_many_workers(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text = Process.write_text

    def as_before(process: Process, path: str, text: str) -> None:
        if path == "/tmp/group.conf":
            text = text.replace("worker_processes 1;", f"worker_processes {script.WORKERS};")
        write_text(process, path, text)

    monkeypatch.setattr(Process, "write_text", as_before)
    run(backend).check_differing(14)


@pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (5, 14),
    reason="this kernel does not move what waits",
)
def test_it_differs_where_what_waits_moves_to_another_listener(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_host = backend.open_host

    def migrating(plan: HostPlan) -> OpenedHost:
        return open_host(replace(plan, tcp_migrate_req=True))

    monkeypatch.setattr(backend, "open_host", migrating)
    run(backend).check_differing(14)


# --- reloads without end ------------------------------------------------------------------


@pytest.mark.parametrize("reuseport", [False, True])
def test_twenty_reloads_lose_none_of_twenty_thousand_requests(
    reuseport: bool, backend: NamespacesBackend
) -> None:
    lab, found = reload_often(partial(start_nginx, reuseport=reuseport))
    assert Result(lab, backend).status is ExitStatus.PASSED
    check_reloads(found)


# --- where it cannot run ------------------------------------------------------------------


def check_fault(done: Result, *words: str) -> None:
    """The run ends at its first step, with nginx's own words."""
    assert done.steps(Verdict.FAILED) == [1]
    assert done.status is ExitStatus.FAILED
    assert done.end.error == "nginx-shared has ended with status 1."
    for word in words:
        assert word in done.end.hint
    assert done.conclusions == []


def test_an_error_of_the_configuration_is_a_fault(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, "error_log stderr notice;", "frobnicate on;")
    check_fault(run(backend), "[emerg]", 'unknown directive "frobnicate" in /tmp/shared.conf')


def test_a_port_in_use_is_a_fault(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = script.prepare

    def with_another(host: Host, plan: Plan) -> Process:
        host.process("another", user="alice").listen(plan.port)
        return prepare(host, plan)

    monkeypatch.setattr(script, "prepare", with_another)
    check_fault(run(backend), "bind() to 0.0.0.0:8080 failed (98: Address already in use)")


def test_without_nginx_every_step_is_skipped(
    backend: NamespacesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawned, "PROGRAM_FOLDERS", ())
    done = run(backend)
    assert done.steps(Verdict.SKIPPED) == STEPS
    reasons = {event.outcome for event in done.events if isinstance(event, StepEnded)}
    assert reasons == {Skipped("nginx is not installed here.")}
    assert done.status is ExitStatus.CANNOT_RUN
    assert done.end == RunEnded(ExitStatus.CANNOT_RUN)
    assert done.conclusions == []


def test_a_plan_names_every_step() -> None:
    """Though the fake backend, by which plans are made, runs no programs."""
    done = run_command("lab.nginx", "--dry")
    assert done.status == ExitStatus.PASSED
    assert f"\n{STEPS[-1]:>2}  " in done.output
    assert "skipped" not in done.text
