"""A visit: the connection of one command to a playground, which stays open as long as it lasts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from labs.engine.agent import Stream
from labs.engine.backends.namespaces.missing import without_docker
from labs.engine.errors import CannotRun, EngineError, ExitStatus, UsageError
from labs.engine.model import Evidence
from labs.engine.play.folder import open_folder
from labs.engine.play.ground import Ground, plan_ground
from labs.engine.play.playground import DEADLINE, start_playground
from labs.engine.reading import reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.agent import Json, Message
    from labs.engine.play.folder import Folder
    from labs.engine.script import Lab

HAS_ENDED = "The playground has ended, and all that ran in it."


class Visit:
    """One who has joined a playground."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        stream.connection.settimeout(DEADLINE)
        ground: Ground = reader(Ground)(self._ask({"do": "describe"}, "ground"))
        self.ground = ground

    def fileno(self) -> int:
        """The connection: readable when the playground has ended."""
        return self._stream.connection.fileno()

    def observe(self, host: str) -> Evidence:
        """What the kernel says of a host now."""
        found: Evidence = reader(Evidence)(self._ask({"do": "observe", "host": host}, "evidence"))
        return found

    def leave(self) -> None:
        """Be no longer there."""
        self._stream.close()

    def _ask(self, request: Message, what: str) -> Json:
        try:
            self._stream.send(request)
            answer = self._stream.receive()
        except TimeoutError:
            raise EngineError("The playground does not answer.") from None
        except OSError:
            answer = None
            with contextlib.suppress(OSError):
                answer = self._stream.receive()  # its last words, if it had any
        match answer:
            case None:
                raise EngineError(HAS_ENDED)
            case {"refused": int(status), "message": str(message), "hint": str(hint)}:
                if status == ExitStatus.CANNOT_RUN:
                    raise without_docker(CannotRun(message, hint))
                raise EngineError(message, hint)
        return answer[what]


@contextlib.contextmanager
def open_visit(lab: Lab | None, seed: int | None, *, new: bool) -> Iterator[Visit]:
    """Join the playground that is open, or open one; of this lab, where one is named.

    Raises UsageError where it is not clear which one is meant, or it is another lab's.
    """
    with open_folder() as folder:
        with folder.locked():
            visit = None if new else find_visit(folder, lab, seed)
            if visit is None:
                visit = Visit(start_playground(plan_ground(lab, seed), folder))
        try:
            yield visit
        finally:
            visit.leave()


@contextlib.contextmanager
def join_visit(lab: Lab | None, seed: int | None) -> Iterator[Visit]:
    """Join the playground that is open; UsageError where there is none."""
    with open_folder() as folder:
        with folder.locked():
            visit = find_visit(folder, lab, seed)
        if visit is None:
            raise UsageError("No playground is open.", "invoke play  opens one.")
        try:
            yield visit
        finally:
            visit.leave()


def find_visit(folder: Folder, lab: Lab | None, seed: int | None) -> Visit | None:
    """A visit of the open playground that is meant; None where none is open. Raises UsageError."""
    visits = []
    for connection in folder.connect():
        with contextlib.suppress(EngineError):  # it has just ended
            visits.append(Visit(Stream(connection)))
    chosen = None
    try:
        chosen = choose(visits, lab, seed)
    finally:
        for visit in visits:
            if visit is not chosen:
                visit.leave()
    return chosen


def choose(visits: Sequence[Visit], lab: Lab | None, seed: int | None) -> Visit | None:
    """The one of a lab, or the only one."""
    if not visits:
        return None
    fitting = [
        visit
        for visit in visits
        if (lab is None or visit.ground.lab == lab.name)
        and (seed is None or visit.ground.seed == seed)
    ]
    if len(fitting) == 1:
        return fitting[0]
    open_ones = ", ".join(describe(visit.ground) for visit in visits)
    if fitting:
        which = "--lab NAME or --seed N says which one is meant."
        raise UsageError(f"Several playgrounds are open: {open_ones}.", which)
    hint = (
        "Without --lab and --seed you join it. Or leave it, or open another beside it with --new."
    )
    raise UsageError(f"The playground that is open is {open_ones}.", hint)


def describe(ground: Ground) -> str:
    """A playground in a few words."""
    name = f"of the lab {ground.lab}" if ground.lab else "of no lab"
    return name if ground.seed is None else f"{name} with seed {ground.seed}"
