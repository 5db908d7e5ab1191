"""What every backend with agents does about programs, batches and processes that are killed.

A module for one backend has a class that derives from AgentsContract, and two fixtures: `server`,
a host, and `hasty_server`, one whose processes have little time to answer.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.agents import AgentBackend
from labs.engine.errors import EngineError, LabError
from labs.engine.model import Observation, Reference
from tests.contract import IPV4, TCP, Host, Process, call, connect_pair

if TYPE_CHECKING:
    from labs.engine.agent import Message

NOTHING = Observation((), ())


def send_signal(host: Host, pid: int, number: int, milliseconds: int = 0) -> bool:
    """Send a signal to what has this pid on a host; whether it has ended so soon."""
    assert isinstance(host.backend, AgentBackend)
    request: Message = {
        "do": "end",
        "pid": pid,
        "signal": int(number),
        "milliseconds": milliseconds,
    }
    return bool(host.backend._hosts[host.plan.name].ask(request)["ended"])


class AgentsContract:
    """What the calls of the contract leave open, where real processes carry them out."""

    kill_deadline = 1000  # milliseconds: until what was killed is gone

    def kill(self, process: Process) -> None:
        """End a process behind the backend's back; returns when it is gone."""
        pid = process.started.pid
        assert send_signal(process.host, pid, signal.SIGKILL, self.kill_deadline)

    def test_a_batch_of_a_thousand(self, server: Host) -> None:
        alice = server.start("alice")
        calls = [call("socket", IPV4, TCP), call("close", Reference(0))] * 500
        results = alice.perform(*calls)
        assert {result.errno for result in results} == {0}
        assert len(results) == 1000

    def test_an_agent_that_is_killed_in_the_middle_of_a_batch_has_died(self, server: Host) -> None:
        alice, theirs, _, _ = connect_pair(server)
        (port,) = (row.peer[1] for row in server.rows())
        calls = [call("send", theirs, "now"), call("recv", theirs, 1)]
        with ThreadPoolExecutor(1) as pool:
            performed = pool.submit(alice.perform, *calls)
            server.wait_for_data(port, 3)
            self.kill(alice)
            with pytest.raises(EngineError, match="The process alice has died"):
                performed.result()

    def test_a_fault_before_exec(self, server: Host) -> None:
        alice = server.start("alice")
        with pytest.raises(LabError, match="alice"):
            alice.perform(call("frobnicate"), call("exec", "/bin/true", ("true",)))
        assert alice.socket() == 3

    @pytest.mark.parametrize(("path", "errno"), [("/nonexistent", "ENOENT"), ("/etc", "EACCES")])
    def test_a_program_that_cannot_be_executed(self, server: Host, path: str, errno: str) -> None:
        alice = server.start("alice")
        assert alice.refused("exec", path, (path,)) == errno
        assert alice.socket() == 3

    def test_a_program_that_ends_by_itself(self, server: Host) -> None:
        alice = server.start("alice")
        alice.do("set_inheritable", alice.listening(), 1)
        assert alice.perform(call("exec", "/bin/true", ("true",))) == ()
        alice.end(0)
        assert server.backend.observe("server") == NOTHING

    def test_a_program_that_does_not_end_by_itself(self, hasty_server: Host) -> None:
        assert isinstance(hasty_server.backend, AgentBackend)
        seconds = hasty_server.backend._deadline / 2
        alice = hasty_server.start("alice")
        alice.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
        with pytest.raises(EngineError) as raised:
            alice.end(0)
        assert raised.value.message == f"The process alice did not end within {seconds:g} s."
        assert set(hasty_server.processes()) == {alice.started.pid}
