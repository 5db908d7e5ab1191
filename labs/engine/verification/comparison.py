"""Holds a kernel's answers against the model's."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import EngineError
from labs.engine.model import CallResult, Credentials, name_errno
from labs.engine.rules.calls import Accept, Bind, Listen, Open
from labs.engine.rules.rulebook import read_version
from labs.engine.strace import show_call, show_result
from labs.engine.verification.cell import predict
from labs.engine.verification.measuring import translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.errors import ExitStatus
    from labs.engine.rules.rulebook import Rulebook
    from labs.engine.rules.world import Answer
    from labs.engine.verification.cell import Cell
    from labs.engine.verification.measuring import Errnos

FIRST_DESCRIPTOR = 3


@dataclass(frozen=True)
class Mismatch:
    """A cell in which a kernel answered a call otherwise than the model, the first such call.

    `errnos` are the kernel's answers to all calls of the cell, `answer` is the model's to the call
    with this index.
    """

    cell: Cell
    errnos: tuple[int, ...]
    index: int
    answer: Answer

    def lines(self) -> Iterator[str]:
        """The calls up to the one that differs, as strace would show them."""
        counts: dict[str, int] = {}
        descriptors: dict[str, int] = {}
        for call, number in zip(
            self.cell.calls[: self.index + 1], self.errnos[: self.index + 1], strict=True
        ):
            user = call.user
            made = [*translate(call, descriptors.get(call.socket, -1))][-1]
            value = 0
            if isinstance(call, Open | Accept) and not number:
                value = counts.get(user.name, FIRST_DESCRIPTOR)
                counts[user.name] = value + 1
                descriptors[call.child if isinstance(call, Accept) else call.socket] = value
            result = CallResult(value, number, Credentials(*(user.uid,) * 4))
            yield f"{user.name}/{user.uid}  {show_call(made, [])}  = {show_result(result)}"

    @property
    def kernel(self) -> str:
        """What the kernel answered."""
        return name_errno(number) if (number := self.errnos[self.index]) else "OK"

    @property
    def model(self) -> str:
        """What the model answers, and by which rule."""
        holder = self.answer.holder
        due = f", due to the socket {holder.name}" if holder else ""
        return f"{self.answer.errno or 'OK'} by the rule {self.answer.rule.name}{due}"

    def to_json(self) -> dict[str, object]:
        """As the document of all comparisons has it."""
        return {
            "cell": self.cell.about,
            "calls": [*self.lines()],
            "kernel": self.kernel,
            "model": self.answer.errno or "OK",
            "rule": self.answer.rule.name,
            "holder": self.answer.holder.name if self.answer.holder else "",
        }


@dataclass(frozen=True)
class Comparison:
    """What came of a kernel: how many cells, how many bind() and listen() in them, in what time.

    `what` says what the cells are: of the table, or sequences, then with their `seed` if they were
    generated, and the `shortest` one that differs, `kept` in a file.
    Where it came to nothing, `problem` says why, `hint` what to do, and `status` whose fault it is;
    where there is a shortest one all the same, that could not be kept.
    """

    name: str
    status: ExitStatus
    release: str = ""
    cells: int = 0
    compared: int = 0
    seconds: float = 0.0
    mismatches: tuple[Mismatch, ...] = ()
    what: str = "cells"
    seed: int | None = None
    shortest: Mismatch | None = None
    kept: str = ""
    problem: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, object]:
        """As the document of all comparisons has it."""
        return {
            "kernel": self.name,
            "release": self.release,
            "status": int(self.status),
            "what": self.what,
            "seed": self.seed,
            "cells": self.cells,
            "compared": self.compared,
            "seconds": round(self.seconds, 3),
            "mismatches": [mismatch.to_json() for mismatch in self.mismatches],
            "shortest": self.shortest.to_json() if self.shortest else None,
            "kept": self.kept,
            "problem": self.problem,
        }


def read_release(release: str) -> tuple[int, ...]:
    """A kernel's version; EngineError where its release does not tell."""
    try:
        return read_version(release)
    except ValueError as error:
        raise EngineError(f"{error}: which rules it has is not known.") from None


def find_mismatches(
    cells: Sequence[Cell], answered: Sequence[Errnos], rulebook: Rulebook
) -> Iterator[Mismatch]:
    """Each cell in which a kernel answered a call otherwise than its rules have it."""
    for cell, errnos in zip(cells, answered, strict=True):
        for index, answer in enumerate(predict(cell, rulebook)):
            if errnos[index] != (getattr(errno, answer.errno) if answer.errno else 0):
                yield Mismatch(cell, tuple(errnos), index, answer)
                break


def count_compared(cells: Sequence[Cell]) -> int:
    """How many bind() and listen() there are in some cells."""
    return sum(isinstance(call, Bind | Listen) for cell in cells for call in cell.calls)
