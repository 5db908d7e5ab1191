"""Real servers and clients of a lab, seen from outside: by the kernel, their words, their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from labs.engine.errors import EngineError, LabError
from labs.engine.model import Call
from labs.engine.waiting import PROGRAM_DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from labs.engine.model import ProcessRow, Value
    from labs.engine.remote import Process
    from labs.engine.session import Session

LAST_LINES = 6  # that are shown of a program that failed


class HasPid(Protocol):
    """A process of a host, whoever drives it."""

    @property
    def pid(self) -> int:
        """Its pid on its host."""


@dataclass(frozen=True)
class Child:
    """A process that a program has forked."""

    name: str
    pid: int


class Program:
    """A program that a process of the lab has started; `pid` is that on its host.

    It ends by itself, by a signal or with its host; in containers with its starter too.
    """

    def __init__(
        self, session: Session, starter: Process, name: str, pid: int, *, is_known: bool = False
    ) -> None:
        self._session = session
        self._starter = starter
        self.name = name
        self.pid = pid
        self.host = starter.host
        if not is_known:
            session.introduce(pid, name, starter.name)

    @property
    def output(self) -> str:
        """What it and its children have written so far, to standard output and error."""
        return str(self._consult("read_output"))

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        status = self._consult("waitpid")
        assert status is None or isinstance(status, int)
        return status

    def kill(self, signal: int) -> None:
        """kill(2), by the process that started it."""
        self._starter.send_signal(self, signal)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds; EngineError with its own words where it ends before."""

        def holds() -> bool:
            if condition():
                return True
            if self.status is not None:
                self._fail()
            return False

        wait_until(holds, f"{self.name}: {what}", PROGRAM_DEADLINE)

    def wait(self) -> None:
        """Wait until it has ended."""
        wait_until(lambda: self.status is not None, f"{self.name} ends", PROGRAM_DEADLINE)

    def succeed(self) -> None:
        """Wait until it has ended with status 0; EngineError with its own words for another."""
        self.wait()
        if self.status != 0:
            self._fail()

    def children(self) -> list[int]:
        """The pids of its children that run now, in order."""
        return self._starter.list_children(self)

    def name_children(self, name: str, count: int, *, user: str) -> list[Child]:
        """Wait until it has so many children, all of this user, and call them NAME-1 and on.

        A server's workers become another user only after they were forked.
        """
        uid = self._starter.uid(user)
        found: list[ProcessRow] = []

        def all_are_there() -> bool:
            pids = self.children()
            rows = self.host.processes() if len(pids) == count else []
            found[:] = [row for row in rows if row.pid in pids and row.credentials.effective == uid]
            return len(found) == count

        self.wait_until(all_are_there, f"{count} children")
        return [self._introduce(row, f"{name}-{n}") for n, row in enumerate(found, 1)]

    def quote(self, words: str) -> None:
        """Show the first line that it has written with these words in it; LabError without one."""
        lines = [line for line in self.output.splitlines() if words in line]
        if not lines:
            raise LabError(f"{self.name} has not written {words!r}.")
        self._session.quote(self.name, lines[0])

    def _introduce(self, row: ProcessRow, name: str) -> Child:
        self._session.introduce(row.pid, name, self.name, row.credentials)
        return Child(name, row.pid)

    def _consult(self, name: str) -> Value:
        return self._session.consult(self._starter.name, Call(name, (self.pid,)))

    def _fail(self) -> None:
        """EngineError for a program that has ended, with the last that it wrote."""
        last = "\n  ".join(self.output.splitlines()[-LAST_LINES:])
        raise EngineError(
            f"{self.name} has ended with status {self.status}.", f"It wrote:\n  {last}"
        )
