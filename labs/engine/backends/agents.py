"""Drives agents and the warm parents of hosts, however a backend has started them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from labs.engine.backends.codec import (
    decode_credentials,
    decode_observation,
    decode_result,
    encode_call,
)
from labs.engine.errors import BindlabError, EngineError
from labs.engine.plans import StartedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labs.engine.agent import Message
    from labs.engine.model import Call, CallResult, Observation


class Channel(Protocol):
    """Carries messages to a process and back; `receive` raises TimeoutError after its deadline."""

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message; OSError when the other end is gone."""

    def receive(self) -> Message | None:
        """The next message, None at end of file."""

    def close(self) -> None:
        """Give the other end an end of file."""


class HasDied(EngineError):
    """A process is gone that was asked something."""


class Peer:
    """A process at the other end of a channel, asked one thing at a time.

    `explain` makes the error of what it could not do and the errno, `fault` that of a request that
    it could not make sense of.
    """

    def __init__(
        self,
        what: str,
        channel: Channel,
        deadline: float,
        explain: Callable[[str, int], BindlabError],
        fault: type[BindlabError] = EngineError,
    ) -> None:
        self.what = what
        self._channel = channel
        self._deadline = deadline
        self._explain = explain
        self._fault = fault
        self._hangs = False

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send without waiting for the answer; the errors of `receive` where nobody reads it."""
        if self._hangs:
            # An answer may still come, to a question that nobody asks any more.
            raise EngineError(f"{self.what} hangs.")
        try:
            self._channel.send(message, descriptors)
        except TimeoutError:
            self._hangs = True
            raise EngineError(f"{self.what} hangs: it reads nothing.") from None
        except OSError:
            with contextlib.suppress(OSError):
                self.receive()  # its last words, if it had any
            raise HasDied(f"{self.what} has died.") from None

    def receive(self) -> Message:
        """The next answer; raises EngineError, CannotRun or the `fault` error where it is none."""
        try:
            answer = self._channel.receive()
        except TimeoutError:
            self._hangs = True
            message = f"{self.what} hangs: no answer within {self._deadline:g} seconds."
            raise EngineError(message) from None
        match answer:
            case None:
                raise HasDied(f"{self.what} has died.")
            case {"errno": int(number), "doing": str(doing)}:
                raise self._explain(doing, number)
            case {"fault": str(fault)}:
                raise self._fault(f"{self.what} could not: {fault}")
        return answer

    def ask(self, message: Message, descriptors: Sequence[int] = ()) -> Message:
        """Send a message and wait for its answer."""
        self.send(message, descriptors)
        return self.receive()

    def close(self) -> None:
        """Give the other end an end of file."""
        self._channel.close()


@dataclass(frozen=True)
class Member:
    """A process of the run: the host that it is on, its pid there, and its channel."""

    host: str
    pid: int
    peer: Peer


class AgentBackend:
    """What backends have in common: hosts with a warm parent, processes with an agent.

    `deadline` is how many seconds one of them may take to answer.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._hosts: dict[str, Peer] = {}
        self._processes: dict[str, Member] = {}

    def perform(
        self, process: str, calls: Sequence[Call], *, go_on: bool = False
    ) -> Sequence[CallResult]:
        """See `Backend.perform`; an exec that succeeds has no result, for it never returns."""
        peer = self._member(process).peer
        peer.send({"calls": [encode_call(call) for call in calls], "go_on": go_on})
        try:
            answer = peer.receive()
        except HasDied:
            if [call.name for call in calls] == ["exec"]:
                return ()
            raise
        match answer:
            case {"results": list(results)}:
                return [decode_result(result) for result in results]
        raise EngineError(f"{peer.what} answered nonsense: {answer}")

    def end_process(self, process: str, signal: int) -> None:
        """See `Backend.end_process`."""
        member = self._member(process)
        # Half of what the host itself may take to answer.
        limit = int(self._deadline * 500)
        request: Message = {
            "do": "end",
            "pid": member.pid,
            "signal": signal,
            "milliseconds": limit,
        }
        if not self._end(process, request):
            raise EngineError(f"The process {process} did not end within {limit / 1000:g} s.")
        del self._processes[process]
        member.peer.close()

    def observe(self, host: str) -> Observation:
        """See `Backend.observe`."""
        return decode_observation(self._host(host).ask({"do": "observe"}))

    def _end(self, process: str, request: Message) -> bool:
        """Have the warm parent of its host end a process; whether it is gone."""
        return bool(self._host(self._member(process).host).ask(request)["ended"])

    def _greet(self, name: str, host: str, peer: Peer) -> StartedProcess:
        """Hear from a new process who it is; from then on it is one of the run."""
        match peer.receive():
            case {"pid": int(pid), "uids": list(uids)}:
                self._processes[name] = Member(host, pid, peer)
                return StartedProcess(pid, decode_credentials(uids))
        raise EngineError(f"{peer.what} did not say who it is.")

    def _host(self, name: str) -> Peer:
        if name not in self._hosts:
            raise EngineError(f"There is no host {name}.")
        return self._hosts[name]

    def _member(self, name: str) -> Member:
        if name not in self._processes:
            raise EngineError(f"There is no process {name}, or it has ended.")
        return self._processes[name]


def check_fork(parent: Peer, answer: Message) -> None:
    """EngineError where a process that was to fork could not."""
    match answer:
        case {"results": [[None, int(number), _]]}:
            raise EngineError(f"{parent.what} could not fork: {os.strerror(number)}.")
