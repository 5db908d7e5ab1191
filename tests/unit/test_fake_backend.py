"""The fake backend keeps the contract, and what it does where a kernel would wait."""

from collections.abc import Iterator

import pytest

from labs.engine.agent import Agent
from labs.engine.backends.fake import FakeBackend
from labs.engine.backends.fake_process import WORK_CALLS
from labs.engine.errors import EngineError
from tests.contract import (
    ON_DESCRIPTOR,
    SET_UID_CALLS,
    Host,
    OwnUserNamespaceContract,
)


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    opened = FakeBackend()
    yield opened
    opened.close()


class TestFakeBackend(OwnUserNamespaceContract):
    """The contract."""

    def test_its_name(self, backend: FakeBackend) -> None:
        assert backend.name == "fake"

    def test_there_is_no_shell_to_enter(self, server: Host) -> None:
        assert server.backend.enter_command("server") == ""

    def test_what_would_wait_hangs(self, server: Host) -> None:
        alice = server.start("alice")
        listener = alice.listening(backlog=0)
        with pytest.raises(EngineError, match="The process alice hangs: no connection"):
            alice.ask("accept", listener)
        connected = alice.connected()
        with pytest.raises(EngineError, match="hangs: nothing has come"):
            alice.ask("recv", connected, 1)
        with pytest.raises(EngineError, match="hangs: the accept queue is full"):
            alice.connected()

    def test_nothing_is_left_after_close(self, server: Host) -> None:
        server.start("alice").listening()
        server.backend.close()
        with pytest.raises(EngineError, match="no host server"):
            server.backend.observe("server")
        with pytest.raises(EngineError, match="no process alice"):
            server.backend.perform("alice", [])


def test_the_contract_has_every_call_of_the_agent() -> None:
    offered = {name.removeprefix("call_") for name in dir(Agent) if name.startswith("call_")}
    others = {"socket", "fork", "exec", "exit", "pidfd_getfd", "unshare", "setns"}
    others |= {
        "kill",
        "waitpid",
        "read_output",
        "read_children",
        "read_status",
    }  # of a program, which the fake cannot start
    assert offered == {*ON_DESCRIPTOR, *SET_UID_CALLS, *others, *WORK_CALLS}
