"""The terminal view: each step with its calls, evidence, outcome and reason."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from labs.engine.errors import output_error
from labs.engine.model import (
    ENGINE,
    PLAN,
    Advised,
    CallMade,
    Concluded,
    Credentials,
    Event,
    Evidence,
    Predicted,
    ProcessStarted,
    Quantity,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Verdict,
)
from labs.engine.strace import printable
from labs.engine.translation import Translation, read_translation
from labs.engine.users import number_users
from labs.engine.views.digest import (
    COLUMNS,
    acting_uids,
    condensed,
    grouped,
    is_mixed,
    is_unusual,
    show_credentials,
    socket_cells,
)
from labs.engine.views.phrases import (
    AS_IT_WAS,
    HAPPENED,
    SIGNS,
    SUMMARY,
    show_counts,
    show_expected,
    show_outcome,
)
from labs.engine.views.reasons import show_decision
from labs.engine.views.score import Score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

INDENT = 4
TEXT_WIDTH = 88
PLAIN_WIDTH = 120
WORDS = Path(__file__).parent  # where the translation of what stands here is

# Users by their numbers; always beside their names, and apart for colour-blind eyes.
USER_STYLES = ("cyan", "yellow", "magenta", "blue", "bright_cyan", "bright_yellow")


class PipeConsole(Console):
    """A console that leaves a broken pipe to its caller, where rich would exit with status 1."""

    def on_broken_pipe(self) -> None:
        """Raise what was raised."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def write_line(self, text: Text | None = None) -> None:
        """Write a line, an empty one without a text; OutputLost or EngineError where it cannot."""
        try:
            self.print(cleaned(text or Text()), soft_wrap=True)
        except OSError as error:
            raise output_error(error) from error

    def indented(self, text: Text, margin: int = INDENT) -> Iterator[Text]:
        """A text in lines with a margin, none too wide to read."""
        for line in text.wrap(self, min(self.width, TEXT_WIDTH) - margin):
            line.rstrip()
            yield Text(" " * margin) + line


def cleaned(text: Text) -> Text:
    """A text without what a terminal would do instead of showing it: names may be any bytes."""
    if text.plain.isprintable():
        return text
    shown = text.copy()
    shown.plain = printable(text.plain, keeping="\n")
    return shown


def make_console(stream: TextIO) -> PipeConsole:
    """A console on a stream: plain text unless that is a terminal with colour."""
    is_terminal = stream.isatty()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # a file's name may have letters that it cannot have
    return PipeConsole(
        file=stream,
        color_system=None if not is_terminal or os.environ.get("NO_COLOR") else "auto",
        width=None if is_terminal else shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns,
        highlight=False,
        emoji=False,
    )


class TextView:
    """Tells a run as it goes on, in lines for a console; `write` takes what is there at a time."""

    def __init__(
        self, console: PipeConsole, write: Callable[[Text], None], *, has_signs: bool = True
    ) -> None:
        self._console = console
        self._write = write
        self._has_signs = has_signs
        self._times, self._arrow = ("×", "→") if self._has_signs else ("x", "->")
        self._processes: dict[str, ProcessStarted] = {}
        self._step: StepStarted | None = None
        self._calls: list[CallMade] = []
        self._steps: dict[int, Verdict] = {}
        self._lines: list[Text] = []
        self._score = Score()
        self._say = Translation().text

    def __call__(self, event: Event) -> None:
        """Write the next event."""
        match event:
            case RunStarted():
                self._start_run(event)
                self._flush()
            case ProcessStarted():
                self._processes[event.process] = event
            case StepStarted():
                self._show_plan()
                self._start_step(event)
                self._flush()
            case Predicted():
                self._score.take(event)
            case CallMade():
                self._calls.append(event)
            case StepEnded():
                self._end_step(event)
                self._flush()
            case Advised():
                self._print_text(self._say("Hint: {text}", {"text": event.text}), "yellow")
                self._flush()
            case Concluded():
                self._print()
                self._print(Text(self._say(f"The claim {event.finding}:"), "bold"))
                self._print_text(event.fact)
            case RunEnded():
                self._show_plan()
                self._end_run(event)
                self._flush()

    def show_evidence(
        self, evidence: Iterable[Evidence], users: Mapping[str, int], language: str
    ) -> None:
        """Write the sockets of some hosts, outside of a run; `users` in the order of colours."""
        self._say = read_translation(WORDS, language).text
        for user, uid in users.items():
            uids = Credentials(uid, uid, uid, uid)
            self._processes[user] = ProcessStarted(user, "", user, 0, uids)
        for host in evidence:
            self._print_sockets(host)
            if not host.sockets:
                text = self._say("no socket on {host}", {"host": host.host})
                self._print(Text(f"{' ' * INDENT}{text}", "dim"))
        self._flush()

    # --- a run ---

    def _start_run(self, event: RunStarted) -> None:
        self._processes, self._steps = {}, {}
        self._say = read_translation(WORDS, event.language).text
        self._score.begin(event, self._say)
        seed = "" if event.seed is None else f", seed {event.seed}"
        self._print(Text.assemble((event.lab, "bold"), "  ", event.title))
        if event.claim:
            self._print(Text(self._say("claim: {claim}", {"claim": event.claim})))
        machine = f" ({event.machine})" if event.machine else ""
        where = f"{event.backend}, Linux {event.kernel}{machine}"
        if event.backend == PLAN:
            where = self._say("plan, nothing is started")
        self._print(Text(f"{where}, bindlab {event.version}{seed}", "dim"))

    def _end_run(self, event: RunEnded) -> None:
        self._print()
        if counts := show_counts([*self._steps.values()], self._say):
            self._print(Text(counts, "bold"))
        for number, verdict in self._steps.items():
            if verdict in (Verdict.DIFFERS, Verdict.FAILED):
                step = self._say("step {number}", {"number": number})
                self._print(Text(f"  {step} {self._say(SUMMARY[verdict])}", SIGNS[verdict][2]))
        for line, style in self._score.summary():
            self._print(Text(line, style))
        if event.error:
            self._print(Text(event.error, "bold red"))
        if event.hint:
            self._print(Text(f"  {event.hint}", "dim"))

    # --- a step ---

    def _start_step(self, event: StepStarted) -> None:
        self._step, self._calls = event, []
        self._score.take(event)
        self._print()
        self._print(Text(f"{event.number:>2}  {event.title}", "bold"))

    def _end_step(self, event: StepEnded) -> None:
        assert self._step is not None
        step, self._step = self._step, None
        self._steps[event.number] = event.verdict
        calls = self._calls
        self._print_calls()
        self._print_evidence(event)
        self._print_credentials(event.evidence, calls)
        self._print_outcome(step, event)
        self._score.take(event)
        if said := self._score.line(event.number):
            self._print_text(f"  {said[0]}", said[1])
        self._print_rule(event)
        why = step.why
        if event.verdict is Verdict.DIFFERS:  # the reason is one for what has not come
            why = self._say("Why that was expected: {why}", {"why": why})
        self._print_text(why)

    def _print_outcome(self, step: StepStarted, event: StepEnded) -> None:
        sign, word, style = SIGNS[event.verdict]
        mark = sign if self._has_signs else self._say(word)
        values = {
            "expected": show_expected(step.expected, self._say),
            "outcome": show_outcome(event.outcome, self._say),
        }
        text = self._say(HAPPENED.get(event.verdict, AS_IT_WAS), values)
        self._print(Text(f"{' ' * INDENT}{mark} {text}", style))
        if isinstance(event.outcome, Quantity) and event.outcome.parts:
            parts = ", ".join(f"{name} {value:g}" for name, value in event.outcome.parts.items())
            self._print_text(f"  {parts}", style)

    def _print_rule(self, event: StepEnded) -> None:
        """By which rule the step was decided, where the rules say so."""
        if event.decision is not None:
            text = self._say("rule: {reason}", {"reason": show_decision(event.decision, self._say)})
            style = "dim" if event.decision.agrees else "bold red"
            self._print_text(text, style, INDENT + 2)

    def _show_plan(self) -> None:
        """In a plan no step ends: what it would do and what is expected comes all the same."""
        if self._step is None:
            return
        step, self._step = self._step, None
        self._print_calls()
        expected = show_expected(step.expected, self._say)
        text = self._say("expected {expected}", {"expected": expected})
        self._print(Text(f"{' ' * INDENT}{text}"))
        self._print_text(step.why)

    # --- calls ---

    def calls_so_far(self) -> list[Text]:
        """The calls of the step that is open, in lines."""
        lines = condensed(self._calls)
        names = max((len(f"{call.process}/{call.uid}") for call, _ in lines), default=0)
        width = max((len(call.call) for call, _ in lines), default=0)
        return [self._show_call(call, count, names, width) for call, count in lines]

    def _print_calls(self) -> None:
        self._lines += self.calls_so_far()
        self._calls = []

    def _show_call(self, call: CallMade, count: int, name_width: int, call_width: int) -> Text:
        who = f"{call.process}/{call.uid}".ljust(name_width)
        result = f"  = {call.result}" if call.result else ""
        # How often depends on what the kernel answers: a plan does not say.
        times = f"  {self._times} {count}" if count > 1 and result else ""
        if INDENT + name_width + 2 + call_width + len(result) > self._console.width:
            result = result.partition(" (")[0]  # the errno's name says it
        user = "" if call.process == ENGINE else self._processes[call.process].user
        return Text.assemble(
            " " * INDENT,
            (who, self._style_of(user)),
            f"  {call.call.ljust(call_width)}" if result else f"  {call.call}",
            (result, "bold red" if call.errno else "dim"),
            times,
        )

    # --- evidence ---

    def _print_evidence(self, event: StepEnded) -> None:
        for evidence in event.evidence:
            self._print_sockets(evidence)

    def _print_sockets(self, evidence: Evidence) -> None:
        if not evidence.sockets:
            return
        groups = grouped(evidence.sockets)
        signs = self._times, self._arrow
        rows = [list(COLUMNS), *(socket_cells(group, *signs) for group in groups)]
        margin = " " * (INDENT + 2)
        header, *lines = fitted(rows, self._console.width - len(margin))
        self._print(Text(f"{' ' * INDENT}sock_diag on {evidence.host}", "dim"))
        self._print(Text(margin + header, "dim"))
        for line in lines:
            text = Text(margin + line)
            for user in self._users():
                text.highlight_regex(rf"\b{re.escape(user)}/\d+", self._style_of(user))
            self._print(text)

    def _print_credentials(self, evidence: Iterable[Evidence], calls: Sequence[CallMade]) -> None:
        """Of who made calls: uids that differ, and capabilities that one would not expect."""
        acting = acting_uids(calls)
        refused = {call.process for call in calls if call.errno}
        for process in (process for host in evidence for process in host.processes):
            inner, outer = acting.get(process.name), process.credentials.effective
            is_refused = process.name in refused and process.capabilities
            if inner is None:
                continue
            if inner != outer:
                text = f"{process.name}: uid {inner} in its own user namespace, {outer} outside"
                self._print_text(text, "dim")
            elif is_refused or is_mixed(process) or is_unusual(process):
                self._print_text(show_credentials(process), "dim")

    # --- text ---

    def _users(self) -> list[str]:
        """The users in the order in which they came."""
        return list(dict.fromkeys(started.user for started in self._processes.values()))

    def _style_of(self, user: str) -> str:
        if not user:
            return ""
        return USER_STYLES[number_users(self._users())[user] % len(USER_STYLES)]

    def _print_text(self, text: str, style: str = "", margin: int = INDENT) -> None:
        for line in self._console.indented(Text(text, style), margin):
            self._print(line)

    def _print(self, text: Text | None = None) -> None:
        self._lines.append(text or Text())

    def _flush(self) -> None:
        """Write what has come together: one call of the console for many lines is far cheaper."""
        lines, self._lines = self._lines, []
        self._write(Text("\n").join(map(cleaned, lines)))


class TerminalView(TextView):
    """Writes a run to a stream as it goes on; plain text unless that is a terminal with colour."""

    def __init__(self, stream: TextIO) -> None:
        console = make_console(stream)
        has_signs = (stream.encoding or "").lower().startswith("utf")
        super().__init__(console, partial(console.print, soft_wrap=True), has_signs=has_signs)


def fitted(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows as aligned lines, without the last columns where they would be wider than `width`."""
    lines = aligned(rows)
    if max(map(cell_len, lines)) <= width or len(rows[0]) == 1:
        return lines
    return fitted([row[:-1] for row in rows], width)


def aligned(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell on a terminal."""
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        gap.join(map(set_cell_size, row, widths)).rstrip()  # wide characters take two columns
        for row in rows
    ]
