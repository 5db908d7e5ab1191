"""A kernel that is asked about sequences, some at a time, for as long as one wants."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from labs.engine.rules.calls import Bind, Connect
from labs.engine.verification.cell import Cell
from labs.engine.verification.measuring import AT_ONCE, Batch, end_place, open_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.backend import Backend
    from labs.engine.rules.calls import Call
    from labs.engine.verification.measuring import Errnos

PORT, OTHER_PORT, LOW_PORT = 2_000, 2_001, 80
"""The ports of a sequence, for which each one has others in the end."""

FIRST_PORT, FIRST_LOW_PORT = 2_000, 100
# Each leaves up to three connections that stay for a minute; see measuring.IN_ONE_PLACE.
IN_ONE_PLACE = 400


class Witness:
    """Asks the kernel of a backend, in fresh network namespaces after some hundred sequences."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._places = 0
        self._used = IN_ONE_PLACE  # of the ports of a place

    def ask(self, cells: Sequence[Cell]) -> list[Errnos]:
        """What the kernel answers to each call of each sequence; raises EngineError."""
        return [errnos for some in self.ask_all(cells) for errnos in some]

    def ask_all(self, cells: Sequence[Cell]) -> Iterator[list[Errnos]]:
        """The same, some sequences at a time."""
        for first in range(0, len(cells), AT_ONCE):
            some = cells[first : first + AT_ONCE]
            if self._used + len(some) > IN_ONE_PLACE:
                self._move()
            placed = [place(cell, self._used + index) for index, cell in enumerate(some)]
            self._used += len(some)
            yield Batch(self._backend, str(self._places), placed).carry_out()

    def _move(self) -> None:
        """Go to fresh network namespaces."""
        if self._places:
            end_place(self._backend, str(self._places))
        self._places += 1
        self._used = 0
        open_place(self._backend, str(self._places))


def place(cell: Cell, number: int) -> Cell:
    """A sequence on ports that no other number has."""
    ports = {
        PORT: FIRST_PORT + 2 * number,
        OTHER_PORT: FIRST_PORT + 2 * number + 1,
        LOW_PORT: FIRST_LOW_PORT + number,
    }
    return Cell(cell.about, tuple(move(call, ports) for call in cell.calls))


def move(call: Call, ports: dict[int, int]) -> Call:
    """A call with another port for the one that it names."""
    match call:
        case Bind() | Connect():
            return replace(call, port=ports.get(call.port, call.port))
    return call
