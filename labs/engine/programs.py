"""Real servers and clients of a lab, seen from outside: by the kernel, their words, their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from labs.engine.errors import EngineError, LabError
from labs.engine.model import Call
from labs.engine.waiting import wait_until

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

    It ends by itself, by a signal or with the run; not with the process that started it.
    """

    def __init__(self, session: Session, starter: Process, name: str, pid: int) -> None:
        self._session = session
        self._starter = starter
        self.name = name
        self.pid = pid
        self.host = starter.host
        rows = [row for row in self.host.processes() if row.pid == pid]
        if not rows:
            self._fail()
        session.introduce(rows[0], name, self.host.name, starter.name)

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
        self._starter.perform(Call("kill", (self.pid, signal)))

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds; EngineError with its own words where it ends before."""

        def holds() -> bool:
            if condition():
                return True
            if self.status is not None:
                self._fail()
            return False

        wait_until(holds, f"{self.name}: {what}")

    def wait(self) -> None:
        """Wait until it has ended."""
        wait_until(lambda: self.status is not None, f"{self.name} ends")

    def children(self) -> list[ProcessRow]:
        """Its children that run now, in the order of their pids."""
        return [row for row in self.host.processes() if row.parent == self.pid]

    def name_children(self, name: str, count: int, *, user: str = "") -> list[Child]:
        """Wait until it has so many children, and call them NAME-1 and on.

        Where a `user` is given, those of this user alone: a server's workers become theirs.
        """
        found: list[ProcessRow] = []
        uid = self._starter.uid(user) if user else None

        def all_are_there() -> bool:
            rows = self.children()
            found[:] = [row for row in rows if uid in (None, row.credentials.effective)]
            return len(found) == count

        self.wait_until(all_are_there, f"{count} children")
        children = [Child(f"{name}-{number}", row.pid) for number, row in enumerate(found, 1)]
        for row, child in zip(found, children, strict=True):
            self._session.introduce(row, child.name, self.host.name, self.name)
        return children

    def quote(self, words: str) -> None:
        """Show the first line that it has written with these words in it; LabError without one."""
        lines = [line for line in self.output.splitlines() if words in line]
        if not lines:
            raise LabError(f"{self.name} has not written {words!r}.")
        self._session.quote(self.name, lines[0])

    def _consult(self, name: str) -> Value:
        return self._session.consult(self._starter.name, Call(name, (self.pid,)))

    def _fail(self) -> None:
        """EngineError for a program that has ended, with the last that it wrote."""
        last = "\n  ".join(self.output.splitlines()[-LAST_LINES:])
        raise EngineError(
            f"{self.name} has ended with status {self.status}.", f"It wrote:\n  {last}"
        )
