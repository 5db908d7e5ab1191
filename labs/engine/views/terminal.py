"""The terminal view: each step with its calls, evidence, outcome and reason."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from labs.engine.model import (
    CallMade,
    Event,
    Evidence,
    ProcessEvidence,
    ProcessStarted,
    RunEnded,
    RunStarted,
    SocketEvidence,
    StepEnded,
    StepStarted,
    Verdict,
)
from labs.engine.strace import show_address

INDENT = 4
TEXT_WIDTH = 88
PLAIN_WIDTH = 100
CALL_WIDTH = 44
INODE_WIDTH = 100  # narrower than this, the inode column is left out
MANY_CALLS = 12
FIRST_CALLS = 4

# Users in order of appearance; always beside their names, and apart for colour-blind eyes.
USER_STYLES = ("cyan", "yellow", "magenta", "blue")
SIGNS = {
    Verdict.PASSED: ("✔", "ok", "green"),
    Verdict.DIFFERS: ("✘", "DIFFERS", "bold red"),
    Verdict.SKIPPED: ("–", "skipped", "yellow"),
    Verdict.FAILED: ("!", "FAILED", "bold red"),
}
SUMMARY = {
    Verdict.PASSED: "as expected",
    Verdict.DIFFERS: "otherwise",
    Verdict.SKIPPED: "skipped",
    Verdict.FAILED: "not carried through",
}


class TerminalView:
    """Writes a run to a stream as it goes on; plain text unless that is a terminal with colour."""

    def __init__(self, stream: TextIO) -> None:
        is_terminal = stream.isatty()
        plain = not is_terminal or bool(os.environ.get("NO_COLOR"))
        self._console = Console(
            file=stream,
            color_system=None if plain else "auto",
            width=None if is_terminal else int(os.environ.get("COLUMNS") or PLAIN_WIDTH),
            highlight=False,
            emoji=False,
        )
        self._has_signs = (stream.encoding or "").lower().startswith("utf")
        self._processes: dict[str, ProcessStarted] = {}
        self._step: StepStarted | None = None
        self._calls: list[CallMade] = []
        self._steps: dict[int, Verdict] = {}

    def __call__(self, event: Event) -> None:
        """Write the next event."""
        match event:
            case RunStarted():
                self._start_run(event)
            case ProcessStarted():
                self._processes[event.process] = event
            case StepStarted():
                self._flush_plan()
                self._start_step(event)
            case CallMade():
                self._calls.append(event)
            case StepEnded():
                self._end_step(event)
            case RunEnded():
                self._flush_plan()
                self._end_run(event)

    # --- a run ---

    def _start_run(self, event: RunStarted) -> None:
        self._processes, self._steps = {}, {}
        seed = "" if event.seed is None else f", seed {event.seed}"
        self._print(Text.assemble((event.lab, "bold"), "  ", event.title))
        where = f"{event.backend}, Linux {event.kernel}, bindlab {event.version}{seed}"
        self._print(Text(where, "dim"))

    def _end_run(self, event: RunEnded) -> None:
        self._print()
        counts = Counter(self._steps.values())
        parts = [f"{counts[verdict]} {SUMMARY[verdict]}" for verdict in SUMMARY if counts[verdict]]
        if parts:
            steps = "1 step" if len(self._steps) == 1 else f"{len(self._steps)} steps"
            self._print(Text(f"{steps}: {', '.join(parts)}", "bold"))
        for number, verdict in self._steps.items():
            if verdict in (Verdict.DIFFERS, Verdict.FAILED):
                self._print(Text(f"  step {number} {SUMMARY[verdict]}", SIGNS[verdict][2]))
        if event.error:
            self._print(Text(event.error, "bold red"))
        if event.hint:
            self._print(Text(f"  {event.hint}", "dim"))

    # --- a step ---

    def _start_step(self, event: StepStarted) -> None:
        self._step, self._calls = event, []
        self._print()
        self._print(Text(f"{event.number:>2}  {event.title}", "bold"))

    def _end_step(self, event: StepEnded) -> None:
        assert self._step is not None
        step, self._step = self._step, None
        self._steps[event.number] = event.verdict
        self._print_calls()
        for evidence in event.evidence:
            self._print_sockets(evidence)
        self._print_credentials(event.evidence)
        sign, word, style = SIGNS[event.verdict]
        expected = f"expected {step.expected}"
        outcome = f"observed {event.outcome}" if event.verdict in SIGNS else ""
        if event.verdict is Verdict.SKIPPED:
            outcome = f"skipped: {event.outcome}"
        elif event.verdict is Verdict.FAILED:
            outcome = f"failed: {event.outcome}"
        mark = sign if self._has_signs else word
        self._print(Text(f"{' ' * INDENT}{mark} {expected}, {outcome}", style))
        self._print_text(step.why)

    def _flush_plan(self) -> None:
        """In a plan no step ends: what it would do and what is expected comes all the same."""
        if self._step is None:
            return
        step, self._step = self._step, None
        self._print_calls()
        self._print(Text(f"{' ' * INDENT}expected {step.expected}"))
        self._print_text(step.why)

    # --- calls ---

    def _print_calls(self) -> None:
        calls, self._calls = self._calls, []
        if len(calls) <= MANY_CALLS:
            shown, left_out = calls, []
        else:
            rest = calls[FIRST_CALLS:]
            shown = calls[:FIRST_CALLS] + [call for call in rest if call.errno]
            left_out = [call for call in rest if not call.errno]
        names = max((len(f"{call.process}/{call.uid}") for call in shown), default=0)
        for call in shown:
            self._print(self._show_call(call, names))
        if left_out:
            counts = Counter((call.process, call.call.partition("(")[0]) for call in left_out)
            parts = ", ".join(f"{process} {name}() × {n}" for (process, name), n in counts.items())
            self._print_text(f"and {len(left_out)} more: {parts}", "dim")

    def _show_call(self, call: CallMade, name_width: int) -> Text:
        who = f"{call.process}/{call.uid}"
        result = f" = {call.result}" if call.result else ""
        return Text.assemble(
            " " * INDENT,
            (who.ljust(name_width), self._style_of_process(call.process)),
            f"  {call.call:<{CALL_WIDTH}}" if result else f"  {call.call}",
            (result, "bold red" if call.errno else "dim"),
        )

    # --- evidence ---

    def _print_sockets(self, evidence: Evidence) -> None:
        if not evidence.sockets:
            return
        with_inode = self._console.width >= INODE_WIDTH
        columns = ("socket", "state", "owner", "held by", "reuse", "queue", "inode")
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
        for column in columns if with_inode else columns[:-1]:
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for (row, count) in grouped(evidence.sockets):
            cells = socket_cells(row, count)
            table.add_row(*(cells if with_inode else cells[:-1]))
        self._print(Text(f"{' ' * INDENT}sock_diag on {evidence.host}", "dim"))
        self._console.print(Padding(table, (0, 0, 0, INDENT + 2), expand=False))

    def _print_credentials(self, evidence: Iterable[Evidence]) -> None:
        """Who has more than one uid: there it matters which of them counts."""
        for host in evidence:
            for process in host.processes:
                if is_mixed(process):
                    self._print_text(show_credentials(process), "dim")

    # --- text ---

    def _style_of_process(self, process: str) -> str:
        users = list(dict.fromkeys(started.user for started in self._processes.values()))
        return USER_STYLES[users.index(self._processes[process].user) % len(USER_STYLES)]

    def _print_text(self, text: str, style: str = "") -> None:
        width = min(self._console.width, TEXT_WIDTH)
        self._console.print(Padding(Text(text, style), (0, 0, 0, INDENT), expand=False), width=width)

    def _print(self, text: Text | None = None) -> None:
        self._console.print(text or Text(), soft_wrap=True)


def grouped(sockets: Iterable[SocketEvidence]) -> list[tuple[SocketEvidence, int]]:
    """Listeners one by one; connections that look the same but for their peer, with their number."""
    groups: dict[object, list[SocketEvidence]] = {}
    for evidence in sockets:
        row = evidence.row
        is_listener = row.peer[1] == 0
        alike = (row.protocol, row.state, row.local, evidence.user, evidence.holders)
        groups.setdefault(row.inode if is_listener else alike, []).append(evidence)
    return [(group[0], len(group)) for group in groups.values()]


def socket_cells(evidence: SocketEvidence, count: int) -> list[str]:
    """The cells of a table's row."""
    row = evidence.row
    times = f" × {count}" if count > 1 else ""
    options = [
        name
        for name, value in (("addr", evidence.reuseaddr), ("port", evidence.reuseport))
        if value
    ]
    is_listener = row.state == "LISTEN"
    return [
        f"{row.protocol} {show_address(row.local)}",
        row.state + times,
        f"{evidence.user}/{row.uid}",
        ", ".join(evidence.holders) or "nobody",
        "?" if evidence.reuseport is None else " ".join(options) or "-",
        f"{row.receive_queue}/{row.send_queue}" if is_listener else str(row.receive_queue),
        str(row.inode) if count == 1 else "",
    ]


def is_mixed(process: ProcessEvidence) -> bool:
    """Whether a process's four uids are not all the same."""
    uids = process.credentials
    return len({uids.real, uids.effective, uids.saved, uids.filesystem}) > 1


def show_credentials(process: ProcessEvidence) -> str:
    """A process's uids and whether it has capabilities, in one line."""
    uids = process.credentials
    capabilities = f"{process.capabilities:#x}" if process.capabilities else "none"
    return (
        f"{process.name}: real {uids.real}, effective {uids.effective}, saved {uids.saved}, "
        f"file-system {uids.filesystem}; capabilities {capabilities}"
    )
