"""Lays a picture out on a grid of terminal cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.pictures.charting import lay_chart
from labs.engine.pictures.drawing import (
    Arrow,
    Box,
    Drawing,
    Gauge,
    Sign,
    Words,
    cell_width,
    shorten,
    user_style,
)
from labs.engine.pictures.scene import Target
from labs.engine.strace import printable
from labs.engine.translation import read_translation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.pictures.drawing import Shape
    from labs.engine.pictures.scene import Attempt, Door, Figure, HostFrame, Picture, Queue
    from labs.engine.translation import Say

WORDS = Path(__file__).parent  # where the translation of what stands here is
NARROWEST = 40
DOOR_WIDTH = 11
PLACES = 5  # of a queue that are drawn
STATE_WIDTH = PLACES + 9
MOST_LANES = 4
MOST_ATTEMPTS = 6
MOST_QUEUES = 10
MOST_FIGURES = 12
GAP = 2
TITLE_ENDS = 6  # of a frame's upper edge, which its title leaves free
FEWEST = 6  # cells for who holds a socket, beside its owner
COMPACT = 36  # cells; where a socket has fewer, its queue is a number alone
WILD = {"::": "[::]"}  # which is lost among words


def draw(picture: Picture, columns: int, language: str = "en") -> Drawing:
    """Lay a picture out in so many columns, at least NARROWEST; texts in a language."""
    say = read_translation(WORDS, language).text
    sheet = Sheet(max(columns, NARROWEST), say, lanes(picture))
    for number, host in enumerate(picture.hosts):
        if number:
            sheet.row += 1
        HostLayout(sheet, host).draw()
    sheet.connect()
    if picture.chart:
        sheet.row += bool(picture.hosts)
        shapes, rows = lay_chart(picture.chart, sheet.columns, sheet.row, say)
        sheet.shapes += shapes
        sheet.row += rows
    return Drawing(sheet.columns, sheet.row, tuple(map(with_visible_text, sheet.shapes)))


def with_visible_text(shape: Shape) -> Shape:
    """A shape whose text has no controls in it."""
    match shape:
        case Words(text=text) if not text.isprintable():
            return replace(shape, text=printable(text))
        case Box(title=title) if not title.isprintable():
            return replace(shape, title=printable(title))
    return shape


def lanes(picture: Picture) -> int:
    """How many arrows go from one host to another: each has a lane at the left."""
    count = sum(
        attempt.target is not None and attempt.target.host != host.name
        for host in picture.hosts
        for attempt in chosen(joined(host.attempts))
    )
    return min(count, MOST_LANES)


class Sheet:
    """What is laid out so far, from the top down; `row` is the next free one."""

    def __init__(self, columns: int, say: Say, lane_count: int) -> None:
        self.columns = columns
        self.say = say
        self.left = lane_count * 2 + 1 if lane_count else 0
        self.row = 0
        self.shapes: list[Shape] = []
        self.doors: dict[Target, tuple[int, int]] = {}
        self._leaving: list[tuple[Target, int, str]] = []

    def leave(self, attempt: Attempt, target: Target) -> None:
        """An arrow leaves the frame at the row, for the door of another host."""
        style = "refused" if attempt.errno else "accepted"
        self._leaving.append((target, self.row, style))

    def connect(self) -> None:
        """Draw the arrows between hosts, each in a lane of its own."""
        arrivals: Counter[Target] = Counter()
        for lane, (target, row, style) in enumerate(self._leaving[:MOST_LANES]):
            if target not in self.doors:
                continue
            top, height = self.doors[target]
            number = arrivals[target]
            arrivals[target] += 1
            end = top + 1 + min(number, height - 3)
            column = self.left - 2 - 2 * lane
            points = ((self.left, row), (column, row), (column, end), (self.left - 1, end))
            self.shapes.append(Arrow(points, style))


class HostLayout:
    """Lays one host out."""

    def __init__(self, sheet: Sheet, host: HostFrame) -> None:
        self._sheet = sheet
        self._say = sheet.say
        self._host = host
        self._left = sheet.left
        self._inner = sheet.left + DOOR_WIDTH + 1  # where what is behind a door begins
        self._right = sheet.columns - 2  # the last column inside the frame

    def draw(self) -> None:
        """Draw the frame and all that is in it."""
        sheet, host = self._sheet, self._host
        top = sheet.row
        place = len(sheet.shapes)
        sheet.row += 1
        every = joined(host.attempts)
        shown = chosen(every)
        places = [Target(host.name, door.protocol, door.port) for door in host.doors]
        for number, (door, place_of_door) in enumerate(zip(host.doors, places, strict=True)):
            sheet.row += bool(number)
            here = [each for each in shown if each.target == place_of_door]
            sheet.doors[place_of_door] = self._draw_door(door, here)
        self._draw_rest(
            [each for each in shown if each.target not in places], len(every) - len(shown)
        )
        height = sheet.row - top + 1
        width = sheet.columns - self._left
        title = shorten(f"{host.name}  {host.addresses[0]}", width - TITLE_ENDS)
        frame = Box(self._left, top, width, height, "host", title)
        sheet.shapes.insert(place, frame)
        sheet.row += 1

    def _draw_rest(self, attempts: Sequence[Attempt], left: int) -> None:
        """What is behind no door, and how many attempts are left out."""
        sheet, host = self._sheet, self._host
        top = sheet.row
        sheet.row += bool(host.doors)
        begun = sheet.row
        self._draw_rows(attempts, self._left + GAP)
        if left:
            self._note("and {count} more", count=left)
        self._draw_connections()
        self._draw_figures()
        if host.others:
            self._note("also bound: {ports}", ports=", ".join(host.others))
        if sheet.row == begun:
            sheet.row = top

    # --- doors ---

    def _draw_door(self, door: Door, attempts: Sequence[Attempt]) -> tuple[int, int]:
        """Draw a door and what is behind it; its top and its height."""
        sheet = self._sheet
        top = sheet.row
        place = len(sheet.shapes)
        queues = door.queues[:MOST_QUEUES]
        for group in grouped(queues):
            self._draw_group(group)
        if len(door.queues) > len(queues):
            self._note("and {count} more", column=self._inner, count=len(door.queues) - len(queues))
        if not door.queues:
            self._note(door.vacancy, column=self._inner)
        if door.connections:
            counts = ", ".join(f"{count} {state}" for state, count in door.connections.items())
            self._write(self._inner, counts, "dim")
        self._draw_rows(attempts, self._inner)
        sheet.row = max(sheet.row, top + 3)
        is_open = any(queue.is_open for queue in door.queues)
        style = "open" if is_open else "bound" if door.queues else "shut"
        height = sheet.row - top
        words = Words(self._left + 1, top + 1, f"{door.protocol} {door.port}".center(9), style)
        box = Box(self._left, top, DOOR_WIDTH, height, style)
        sheet.shapes[place:place] = [box, words]
        return top, height

    def _draw_group(self, queues: Sequence[Queue]) -> None:
        sheet, first = self._sheet, queues[0]
        if first.group is None:
            for queue in queues:
                self._draw_queue(queue, self._inner, self._right)
            return
        top = sheet.row
        place = len(sheet.shapes)
        sheet.row += 1
        for queue in queues:
            self._draw_queue(queue, self._inner + GAP, self._right - GAP)
        width = self._right - self._inner
        title = self._say("reuseport group of {owner}", {"owner": first.owner_shown})
        title = shorten(title, width - TITLE_ENDS)
        box = Box(self._inner, top, width, sheet.row - top + 1, "group", title)
        sheet.shapes.insert(place, box)
        sheet.row += 1

    def _draw_queue(self, queue: Queue, column: int, right: int) -> None:
        """A socket's address, its accept queue, its owner where that is another, who holds it."""
        sheet, row = self._sheet, self._sheet.row
        address = WILD.get(queue.address, queue.address)
        if right - column < COMPACT:
            state = self._state_text(queue)
            shown = f"{shorten(address, 9)} {state}"
            sheet.shapes.append(Words(column, row, shown, "" if queue.waiting else "dim"))
            column += cell_width(shown) + 1
        else:
            width = 11 if right - column > 44 else 9
            sheet.shapes.append(Words(column, row, shorten(address, width)))
            self._draw_state(queue, column + width + 1)
            column += width + 1 + STATE_WIDTH
        if any(figure.user != queue.user for figure in queue.holders) or not queue.holders:
            column = self._draw_owner(queue, column, right)
        column = self._draw_holders(queue.holders, column, right)
        # Of a group all have SO_REUSEPORT, and its frame says so.
        options = [name for name in queue.options if not (queue.group and name == "SO_REUSEPORT")]
        for option in options:
            if column + cell_width(option) <= right:
                sheet.shapes.append(Words(column, row, option, "dim"))
                column += cell_width(option) + GAP
        sheet.row += 1

    def _draw_state(self, queue: Queue, column: int) -> None:
        """The accept queue of a listener; how many bytes wait at another socket."""
        shapes, row = self._sheet.shapes, self._sheet.row
        style = "" if queue.waiting and queue.listens else "dim"
        if queue.listens:
            shapes.append(Gauge(column, row, PLACES, min(PLACES, queue.waiting)))
            column += PLACES + 1
        shapes.append(Words(column, row, shorten(self._state_text(queue), STATE_WIDTH - 1), style))

    def _state_text(self, queue: Queue) -> str:
        if queue.listens:
            return f"{queue.waiting}/{queue.backlog}"
        if queue.waiting:
            return self._say("{count} bytes", {"count": queue.waiting})
        return self._say("bound")

    def _draw_owner(self, queue: Queue, column: int, right: int) -> int:
        """The owner, where who holds the socket is somebody else; a sign at least."""
        uid = str(queue.uid)
        texts = [self._say("{uid} by", {"uid": uid}), uid] if queue.holders else [uid]
        room = right - column - 3 - FEWEST * bool(queue.holders)
        text = next((text for text in texts if cell_width(text) <= room), "")
        self._sheet.shapes.append(Sign(column, self._sheet.row, queue.user))
        words = Words(column + 2, self._sheet.row, text, user_style(queue.user))
        self._sheet.shapes.append(words)
        return column + 2 + cell_width(text) + bool(text)

    def _draw_holders(self, holders: Sequence[Figure], column: int, right: int) -> int:
        """Who holds a socket, as many as there is room for, and how many more there are."""
        for number, figure in enumerate(holders):
            left = len(holders) - number
            rest = GAP + len(f"+{left - 1}") if left > 1 and right - column > FEWEST else 0
            if number and self._width(figure) > right - column - rest:
                words = Words(column, self._sheet.row, shorten(f"+{left}", right - column), "dim")
                self._sheet.shapes.append(words)
                return column + cell_width(words.text) + GAP
            column = self._draw_figure(figure, column, right - rest, with_uid=False) + GAP
        return column

    # --- processes and what they tried ---

    def _draw_rows(self, attempts: Sequence[Attempt], column: int) -> None:
        """Rows of an arrow, what was called, and who called it."""
        names = max((self._width(each.figure, with_uid=True) for each in attempts), default=0)
        room = self._right - column - names - 9
        labels = [make_label(attempt, room) for attempt in attempts]
        width = max(map(cell_width, labels), default=0)
        for attempt, label in zip(attempts, labels, strict=True):
            self._draw_attempt(attempt, label, column, width)

    def _draw_attempt(self, attempt: Attempt, label: str, column: int, width: int) -> None:
        sheet, row = self._sheet, self._sheet.row
        style = "refused" if attempt.errno else "accepted"
        is_away = attempt.target is not None and attempt.target.host != self._host.name
        begin = column + 4
        if attempt.target is None:
            begin = column + 2 * bool(attempt.errno)
            if attempt.errno:
                sheet.shapes.append(Words(column, row, "✘", style))
        elif is_away:
            sheet.shapes.append(Arrow(((begin - 1, row), (self._left, row)), f"{style} line"))
            sheet.leave(attempt, attempt.target)
        else:
            sheet.shapes.append(Arrow(((begin - 1, row), (column, row)), style))
        sheet.shapes.append(Words(begin, row, label, style))
        end = begin + width + 4
        line = ((end - 2, row), (begin + cell_width(label) + 1, row))
        sheet.shapes.append(Arrow(line, f"{style} line"))
        self._draw_figure(attempt.figure, end, self._right, with_uid=True)
        sheet.row += 1

    def _draw_figures(self) -> None:
        """Processes that hold no socket that is drawn, and have tried nothing."""
        shown = self._host.figures[:MOST_FIGURES]
        column = start = self._left + GAP
        for figure in shown:
            if column > start and column + self._width(figure, with_uid=True) > self._right:
                self._sheet.row += 1
                column = start
            column = self._draw_figure(figure, column, self._right, with_uid=True) + GAP
        self._sheet.row += bool(shown)
        if len(self._host.figures) > len(shown):
            self._note("and {count} more", count=len(self._host.figures) - len(shown))

    def _draw_figure(self, figure: Figure, column: int, right: int, *, with_uid: bool) -> int:
        """A process's sign and name; in a frame of its own where that is its user namespace."""
        sheet, row = self._sheet, self._sheet.row
        text, outside = self._fit_figure(figure, right - column, with_uid=with_uid)
        width = cell_width(text) + 2
        if figure.inner is not None:
            sheet.shapes.append(Box(column, row, width + 2, 1, "namespace"))
            column += 1
        sheet.shapes.append(Sign(column, row, figure.user))
        sheet.shapes.append(Words(column + 2, row, text, user_style(figure.user)))
        column += width
        if outside:
            sheet.shapes.append(Words(column + 2, row, outside, "dim"))
        return column + outside_width(figure, outside)

    def _fit_figure(self, figure: Figure, room: int, *, with_uid: bool) -> tuple[str, str]:
        """What fits into so many cells: a process, and its uid outside its user namespace."""
        for text, outside in self._figure_texts(figure, with_uid=with_uid):
            if cells(figure, text, outside) <= room:
                return text, outside
        return shorten(figure.name, max(room - cells(figure, "", ""), 1)), ""

    def _figure_texts(self, figure: Figure, *, with_uid: bool) -> list[tuple[str, str]]:
        """The same, from the longest to the shortest."""
        if figure.inner is not None:
            inside, outside = f"{figure.name}/{figure.inner}", str(figure.uid)
            words = self._say("{uid} outside", {"uid": figure.uid})
            return [(inside, words), (inside, outside), (figure.name, outside)]
        if with_uid and figure.uid is not None:
            return [(f"{figure.name}/{figure.uid}", "")]
        return [(figure.name, "")]

    def _width(self, figure: Figure, *, with_uid: bool = False) -> int:
        return cells(figure, *self._figure_texts(figure, with_uid=with_uid)[0])

    # --- text ---

    def _draw_connections(self) -> None:
        for (peer, state), count in list(self._host.elsewhere.items())[:MOST_ATTEMPTS]:
            self._write(self._left + GAP, f"{count} {state} → {peer}", "dim")

    def _note(self, text: str, column: int | None = None, **values: object) -> None:
        self._write(self._left + GAP if column is None else column, self._say(text, values), "dim")

    def _write(self, column: int, text: str, style: str) -> None:
        shown = shorten(text, self._right - column)
        self._sheet.shapes.append(Words(column, self._sheet.row, shown, style))
        self._sheet.row += 1


def grouped(queues: Sequence[Queue]) -> list[list[Queue]]:
    """Sockets of one reuseport group together, in their order."""
    groups: list[list[Queue]] = []
    for queue in queues:
        if groups and groups[-1][0].group == queue.group:
            groups[-1].append(queue)
        else:
            groups.append([queue])
    return groups


def joined(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Calls that a process made one after the other, all with success, as one."""
    found: list[Attempt] = []
    for attempt in attempts:
        last = found[-1] if found else None
        if (
            last
            and (last.figure, last.target, last.count) == (attempt.figure, attempt.target, 1)
            and not (last.errno or attempt.errno or attempt.count > 1)
        ):
            found[-1] = replace(last, shown=f"{last.shown}, {attempt.shown}")
        else:
            found.append(attempt)
    return found


def chosen(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Of many attempts those to draw: refused ones, and one of each kind, before more of a kind."""
    kinds: dict[tuple[str, bool], int] = {}
    for number, attempt in enumerate(attempts):
        kinds.setdefault((attempt.shown, bool(attempt.errno)), number)
    firsts = {*kinds.values()}
    order = sorted(
        range(len(attempts)),
        key=lambda number: (number not in firsts, not attempts[number].errno, number),
    )
    return [attempts[number] for number in sorted(order[:MOST_ATTEMPTS])]


def make_label(attempt: Attempt, room: int) -> str:
    """What an arrow says: the result always, the address and the number where there is room."""
    times = f" × {attempt.count}" if attempt.count > 1 else ""
    result = attempt.errno or ("" if attempt.target else "OK")
    end = f"  {result}" if result else ""
    names = [call.partition(" ")[0] for call in attempt.shown.split(", ")]
    name = ", ".join(names)
    for text in (f"{attempt.shown}{times}{end}", f"{name}{times}{end}", f"{name}{end}"):
        if cell_width(text) <= room:
            return text
    return result or names[0]


def cells(figure: Figure, text: str, outside: str) -> int:
    """The cells of a process that is shown in these words."""
    is_framed = figure.inner is not None
    return 2 + cell_width(text) + is_framed + outside_width(figure, outside)


def outside_width(figure: Figure, outside: str) -> int:
    """The cells from the end of a process's name to the end of what is said of it."""
    if outside:
        return 2 + cell_width(outside)
    return int(figure.inner is not None)
