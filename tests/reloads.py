"""Many reloads of nginx under a load of many requests, on whichever backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.script import Lab, exactly, lab
from labs.nginx import lab as script

if TYPE_CHECKING:
    import pytest

    from labs.engine.script import Answers, Run

RELOADS = 20
REQUESTS = 20_000
AT_LEAST = 1_000  # before each reload and after the last


def reload_often(monkeypatch: pytest.MonkeyPatch, *, reuseport: bool) -> tuple[Lab, list[Answers]]:
    """A lab of one step, and where it will leave what came of the requests."""
    monkeypatch.setattr(script, "SOME", AT_LEAST)
    monkeypatch.setattr(script, "MOST", 10 * REQUESTS)  # its end must not come before the reloads'
    found: list[Answers] = []

    @lab("reloads", title="nginx reloads many times under a load of many requests")
    def reloads(run: Run) -> None:
        server, elsewhere = run.host("server"), run.host("elsewhere")
        client = elsewhere.process("client", user="bob")
        plan = script.Plan("often", run.port(8080), reuseport=reuseport)
        with run.step("It reloads", expect=exactly(0, script.LOST), why="The queues stay.") as step:
            nginx = script.start(script.prepare(server, plan), plan)
            answers = script.renew(client, nginx, nginx.reload, RELOADS)
            found.append(answers)
            step.measured(answers.lost, answers.parts)
            nginx.end()

    return reloads, found


def check_reloads(found: list[Answers]) -> None:
    """Nothing was lost, everything is accounted for, and all the workers were asked in turn."""
    (answers,) = found
    assert answers.lost == 0
    assert REQUESTS <= answers.answered < script.MOST
    assert sum(answers.by.values()) == answers.answered
    # Each reload has new workers, and pids of their own: those of one alone would be too few.
    assert len(answers.by) > RELOADS
