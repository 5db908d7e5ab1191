"""A guest's kernel that is asked about sequences, over the guest's channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.agent import encode
from labs.engine.errors import EngineError, UsageError
from labs.engine.verification.kept import encode_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.agent import Json
    from labs.engine.kernels.boot import Guest
    from labs.engine.verification.cell import Cell
    from labs.engine.verification.measuring import Errnos

LONGEST = 3_500  # bytes of a message: see kernels.guest


class GuestWitness:
    """Asks the kernel of a guest, which has the sequences told a few at a time."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        guest.begin("sequences")

    def ask(self, cells: Sequence[Cell]) -> list[Errnos]:
        """What the kernel answers to each call of each sequence; raises EngineError."""
        for some in cut([[encode_call(call) for call in cell.calls] for cell in cells]):
            self._guest.tell({"sequences": some})
            self._guest.hear()
        self._guest.tell({"ask": True})
        answered: list[Errnos] = []
        while len(answered) < len(cells):
            answered += map(read_errnos, self._guest.hear())
        return answered


def cut(sequences: Sequence[Json]) -> Iterator[list[Json]]:
    """Some sequences at a time, as many as a message has room for; UsageError for a long one."""
    some: list[Json] = []
    size = 0
    for sequence in sequences:
        length = len(encode({"": sequence}))
        if length > LONGEST:
            raise UsageError(f"A sequence of {length:,} bytes is too long for a guest.")
        if some and size + length > LONGEST:
            yield some
            some, size = [], 0
        some.append(sequence)
        size += length
    if some:
        yield some


def read_errnos(told: Json) -> Errnos:
    """The errnos of a sequence; EngineError where they are none."""
    if isinstance(told, list):
        errnos = [one for one in told if isinstance(one, int)]
        if len(errnos) == len(told):
            return errnos
    raise EngineError(f"A guest told nonsense: {str(told)[:200]}")
