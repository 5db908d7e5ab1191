"""Evidence as the terminal view shows it, written to memory for whoever has asked."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from labs.engine.model import Evidence
    from labs.engine.play.ground import Ground


class Sheet(io.StringIO):
    """Text in memory that stands for a terminal, or for none."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    encoding = (sys.stdout and sys.stdout.encoding) or "utf-8"

    def isatty(self) -> bool:
        """Whether colours are wanted."""
        return self._is_terminal


def show_on_sheet(
    ground: Ground,
    evidence: Iterable[Evidence],
    port: int,
    language: str,
    *,
    colour: bool,
) -> str:
    """Evidence as text."""
    sheet = Sheet(is_terminal=colour)
    show_evidence(sheet, ground, evidence, port, language)
    return sheet.getvalue()


def show_evidence(
    stream: TextIO, ground: Ground, evidence: Iterable[Evidence], port: int, language: str
) -> None:
    """Write the sockets of hosts, of one port where it is not 0."""
    from labs.engine.views.terminal import TerminalView

    users = {user.name: user.uid for user in ground.users}
    hosts = [of_port(host, port) for host in evidence]
    TerminalView(stream).show_evidence(hosts, users, language)


def of_port(evidence: Evidence, port: int) -> Evidence:
    """The part of a host's evidence that has to do with a port; all of it for 0."""
    sockets = evidence.sockets
    chosen = (each for each in sockets if not port or port in (each.row.local[1], each.row.peer[1]))
    return replace(evidence, sockets=tuple(chosen))
