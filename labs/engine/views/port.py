"""A port of the machine: the verdict, who is there, what would make it work, what stayed hidden."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from labs.engine.port.cgroup import find_container, find_unit
from labs.engine.port.question import name_user
from labs.engine.port.ruling import Doubt, Verdict
from labs.engine.rules.sockets import TCP
from labs.engine.strace import show_address
from labs.engine.translation import read_translation
from labs.engine.views.terminal import WORDS, make_console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.port.answer import Answer
    from labs.engine.port.question import Question
    from labs.engine.port.ruling import Standing
    from labs.engine.port.sight import Holder, Options, Row, Taken
    from labs.engine.port.worlds import Reply

ENGINE = WORDS.parent
INDENT = 2
GAP = "  "
WIDEST = 100
SHOWN_HOLDERS = 3
FOLDED = ("held by", "socket", "owner")  # columns that may be narrower than their cells
NARROWEST = 16
STYLES = {
    Verdict.ACCEPTED: "bold green",
    Verdict.REFUSED: "bold red",
    Verdict.UNDECIDED: "bold yellow",
}
SIGNS, PLAIN_SIGNS = ("✘", "×", "→"), ("x", "x", "->")
COLUMNS = ("", "socket", "state", "owner", "held by", "options")
NOT_ENOUGH = ("capability", "sysctl")  # advice that another one may have to follow
VERDICTS = {
    Verdict.ACCEPTED: "would be accepted",
    Verdict.REFUSED: "would be refused",
    Verdict.UNDECIDED: "cannot be said for certain",
}
DOUBTS = {
    Doubt.OPTIONS: "on SO_REUSEADDR and SO_REUSEPORT of what is there, which were not seen",
    Doubt.REST: "on the options of what has ended, which nothing shows",
    Doubt.OWNER: "on whose the socket is that is there",
    Doubt.MEMORY: "on what the port remembers of sockets with SO_REUSEPORT, which nothing shows",
    Doubt.ORDER: "on the order in which the kernel looks at the sockets",
    Doubt.BOUND: "on whether a TCP socket is there that is bound and no more, which this kernel "
    "does not show",
}


class PortView:
    """Writes to a stream; plain text unless that is a terminal with colour."""

    def __init__(self, stream: TextIO, language: str) -> None:
        self._console = make_console(stream)
        has_signs = (stream.encoding or "utf-8").lower().startswith("utf")
        self._cross, self._times, self._arrow = SIGNS if has_signs else PLAIN_SIGNS
        self._width = min(self._console.width, WIDEST)
        self._say = read_translation(WORDS, language).text
        self._tell = read_translation(ENGINE / "port", language).text
        self._say_rule = read_translation(ENGINE / "rules", language).text

    def show(self, answer: Answer) -> None:
        """All of an answer."""
        self._show_verdict(answer)
        self._show_sockets(answer)
        self._show_advice(answer)
        self._show_elsewhere(answer)
        self._show_unseen(answer)

    # --- the verdict ---

    def _show_verdict(self, answer: Answer) -> None:
        ruling = answer.ruling
        verdict = ruling.verdict
        head = Text(show_calls(ruling.question))
        head.append(f"  {self._say(VERDICTS[verdict])}", STYLES[verdict])
        if verdict is Verdict.REFUSED:
            head.append(f": {name_refusal(ruling.replies[0])}", STYLES[verdict])
        self._write(head)
        self._write(Text(f"{self._say('by')} {self._describe(ruling.question)}", "dim"), INDENT)
        for reply in ruling.replies:
            self._show_reply(reply, is_one=len(ruling.replies) > 1)
        if ruling.doubts:
            self._write(Text(self._say("It depends:"), "bold"), INDENT)
            for doubt in ruling.doubts:
                self._write_item(Text(self._say(DOUBTS[doubt])))

    def _describe(self, question: Question) -> str:
        options = (
            *(("SO_REUSEADDR", question.reuseaddr), ("SO_REUSEPORT", question.reuseport)),
            *(
                ("IPV6_V6ONLY", question.v6only),
                (f"SO_BINDTODEVICE {question.device}", bool(question.device)),
            ),
            ("CAP_NET_BIND_SERVICE", bool(question.capabilities) and question.uid != 0),
        )
        words = [name for name, is_set in options if is_set] or [self._say("no option")]
        where = question.netns and self._say(
            "in the network namespace of process {pid}", {"pid": question.netns}
        )
        return ", ".join([name_user(question.uid), *words, *([where] if where else [])])

    def _show_reply(self, reply: Reply, *, is_one: bool) -> None:
        text = Text()
        if is_one:
            text.append(f"{reply.errno or 'OK'}  ", "red" if reply.errno else "green")
        text.append(reply.rule.name, "bold")
        text.append(f"  {self._say_rule(reply.rule.sentence)}")
        self._write(text, INDENT, hanging=2)

    # --- who is there ---

    def _show_sockets(self, answer: Answer) -> None:
        standings = answer.ruling.standings
        rows = [(None, taken, 1) for taken in answer.sight.taken] if not standings else []
        shown: list[tuple[Standing | None, Taken, int]] = [*rows]
        for standing in standings:
            for taken, count in alike(standing.member.taken):
                shown.append((standing, taken, count))
        if not shown:
            return
        self._title(self._say("Who is there"))
        table = [[self._say(column) if column else "" for column in COLUMNS]]
        table += [self._cells(*one) for one in shown]
        self._show_table(table)
        for standing in answer.ruling.in_the_way:
            for reason in self._explain(standing, answer.ruling.question):
                self._write(Text(reason, "dim"), INDENT, hanging=2)

    def _cells(self, standing: Standing | None, taken: Taken, count: int) -> list[str]:
        row = taken.row
        state = row.state if row.protocol is TCP else row.protocol
        if row.state == "CLOSE" and row.protocol is TCP:
            state = self._say("bound only")
        if row.timer == "TIME_WAIT" and row.expires:
            state = f"{row.state} {row.expires / 1000:.0f} s"
        return [
            self._mark(standing),
            show_ends(row, count, self._arrow),
            f"{state} {self._times} {count}" if count > 1 else state,
            "-" if row.owner is None else name_user(row.owner),
            self._name_holders(taken),
            self._name_options(row, taken.options),
        ]

    def _mark(self, standing: Standing | None) -> str:
        if standing is None or standing.is_in_the_way is False:
            return ""
        return self._cross if standing.is_in_the_way else "?"

    def _name_holders(self, taken: Taken) -> str:
        if not taken.row.inode:
            return self._say("nobody any more")
        if not taken.holders:
            unknown = self._say("unknown")
            origin = name_origin(taken.origin)
            return f"{unknown} ({origin})" if origin else unknown
        shown = [self._name_holder(holder) for holder in taken.holders[:SHOWN_HOLDERS]]
        if (more := len(taken.holders) - len(shown)) > 0:
            shown.append(self._say("{count} more", {"count": more}))
        return ", ".join(shown)

    def _name_holder(self, holder: Holder) -> str:
        text = f"{holder.command}/{holder.pid}"
        parts = []
        if holder.container:
            parts.append(f"{holder.container.engine} {holder.container.short}")
        elif holder.unit:
            parts.append(holder.unit)
        if holder.inside is not None:
            parts.append(self._say("uid {uid} inside", {"uid": holder.inside}))
        if holder.target:
            parts.append(f"{self._arrow} {holder.target}")
        return f"{text} ({', '.join(parts)})" if parts else text

    def _name_options(self, row: Row, options: Options | None) -> str:
        words = [f"dev {row.device}"] if row.device else []
        v6only = options.v6only if options and options.v6only is not None else row.v6only
        if v6only and row.local[0] == "::":
            words.append("v6only")
        if options is None:
            words.append("?" if row.inode else "-")
        else:
            words += ["reuseaddr"] * options.reuseaddr + ["reuseport"] * options.reuseport
        return " ".join(words) or self._say("none")

    def _show_table(self, table: Sequence[Sequence[str]]) -> None:
        """Rows in columns."""
        widths = fit(table, self._console.width - INDENT)
        for number, cells in enumerate(table):
            style = "bold" if number == 0 else ""
            for line in fold(cells, widths):
                padded = [
                    set_cell_size(cell, width) for cell, width in zip(line, widths, strict=True)
                ]
                text = Text(" " * INDENT + GAP.join(padded).rstrip(), style)
                if number and line[0]:
                    text.stylize("bold red" if line[0] == self._cross else "yellow", 0, INDENT + 1)
                self._console.write_line(text)

    def _explain(self, standing: Standing, question: Question) -> Iterator[str]:
        """Why no rule lets the two share, in a line for each option."""
        taken = standing.member.first
        options, listens = taken.options, taken.row.state == "LISTEN"
        say = self._say
        if question.reuseaddr and listens:
            yield say("SO_REUSEADDR does not help: what is there is listening.")
        elif question.reuseaddr and options and not options.reuseaddr:
            yield say("SO_REUSEADDR does not help: what is there does not have it.")
        if not question.reuseport:
            return
        if options and not options.reuseport:
            yield say("SO_REUSEPORT does not help: what is there does not have it.")
        elif taken.row.owner is not None and taken.row.owner != question.uid:
            values = {"owner": name_user(taken.row.owner), "user": name_user(question.uid)}
            yield say("SO_REUSEPORT does not help: {owner} owns what is there, not {user}.", values)

    # --- what follows ---

    def _show_advice(self, answer: Answer) -> None:
        if not answer.advice:
            return
        self._title(self._say("What would make it work"))
        for one in answer.advice:
            text = Text(self._tell(one.text, one.values))
            if one.kind in NOT_ENOUGH and not one.is_certain:
                text.append(f" {self._say('It is not enough alone.')}")
            if one.lab:
                text.append(" (")
                text.append(f"lab.{one.lab}", "cyan")
                text.append(")")
            self._write_item(text)

    def _show_elsewhere(self, answer: Answer) -> None:
        if not answer.sight.elsewhere:
            return
        self._title(self._say("In other network namespaces the same port is taken"))
        for one in answer.sight.elsewhere[: 2 * SHOWN_HOLDERS]:
            values = {"command": one.command, "pid": one.pid}
            self._write_item(
                Text(self._say("that of {command}, process {pid}: --netns {pid}", values))
            )
        if (more := len(answer.sight.elsewhere) - 2 * SHOWN_HOLDERS) > 0:
            self._write(Text(self._say("{count} more", {"count": more})), INDENT)

    def _show_unseen(self, answer: Answer) -> None:
        if not answer.unseen:
            return
        self._title(self._say("What could not be seen"))
        for one in answer.unseen:
            self._write_item(Text(self._tell(one.text, one.values)))
        for how in dict.fromkeys(one.how for one in answer.unseen if one.how):
            self._write(Text(how, "cyan"), 2 * INDENT)

    # --- text ---

    def _title(self, title: str) -> None:
        self._console.write_line()
        self._console.write_line(Text(title, "bold"))

    def _write(self, text: Text, indent: int = 0, hanging: int = 0) -> None:
        """A text in lines with a margin, and a wider one from its second line on."""
        self._write_beside("", text, indent, hanging)

    def _write_item(self, text: Text) -> None:
        """A text in a list."""
        self._write_beside("- ", text, INDENT, len("- "))

    def _write_beside(self, mark: str, text: Text, indent: int, hanging: int) -> None:
        """A text in lines beside a mark, the first of them; the others have the margin of both."""
        lines = text.wrap(self._console, max(20, self._width - indent - hanging))
        for number, line in enumerate(lines):
            line.rstrip()
            margin = " " * indent + (" " * hanging if number else mark)
            self._console.write_line(Text(margin) + line)


def show_calls(question: Question) -> str:
    """The calls that were asked about."""
    where = show_address((question.address, question.port))
    return f"{question.protocol} bind({where})"


def name_origin(path: str) -> str:
    """What a cgroup is of: a container, a unit, or its path; empty for the root of all."""
    if container := find_container(path):
        return f"{container.engine} {container.short}"
    return find_unit(path) or path.rstrip("/")


def name_refusal(reply: Reply) -> str:
    """The errno, and the call that answers it where it is not bind()."""
    return reply.errno if reply.call == "bind" else f"{reply.errno} ({reply.call}())"


def alike(taken: Sequence[Taken]) -> list[tuple[Taken, int]]:
    """Sockets as they are shown, and how many of each: connections of the same holders are one."""
    groups: dict[object, list[Taken]] = {}
    for one in taken:
        row = one.row
        single = row.inode if not row.peer[1] else 0
        key = (row.local, row.state, single, one.holders, one.options, row.owner)
        groups.setdefault(key, []).append(one)
    return [(max(group, key=lambda one: one.row.expires), len(group)) for group in groups.values()]


def show_ends(row: Row, count: int, arrow: str) -> str:
    """The local end, and the other where there is one."""
    local = show_address(row.local)
    return f"{local} {arrow} {show_address(row.peer)}" if row.peer[1] and count == 1 else local


def fit(table: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide the columns are: as their cells, but some narrower where there is not the room."""
    widths = [max(cell_len(cell) for cell in column) for column in zip(*table, strict=True)]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    for name in FOLDED:
        column = COLUMNS.index(name)
        cut = max(0, min(excess, widths[column] - NARROWEST))
        widths[column] -= cut
        excess -= cut
    return widths


def fold(cells: Sequence[str], widths: Sequence[int]) -> list[tuple[str, ...]]:
    """A row as lines: what is too wide for its column goes on below."""
    columns = [split(cell, width) for cell, width in zip(cells, widths, strict=True)]
    return [*itertools.zip_longest(*columns, fillvalue="")]


def split(text: str, width: int) -> list[str]:
    """A text in lines of a width, at its spaces, or anywhere where a word is too long."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    pieces = ((line, range(0, max(len(line), 1), max(width, 1))) for line in lines)
    return [line[start : start + width] for line, starts in pieces for start in starts]
