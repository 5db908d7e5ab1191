"""A drawing as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from labs.engine.pictures.drawing import (
    USERS,
    Arrow,
    Band,
    Bar,
    Box,
    Columns,
    Gauge,
    Sign,
    Span,
    Words,
    cell_width,
    user_style,
)

if TYPE_CHECKING:
    from labs.engine.pictures.drawing import Drawing, Shape

CELL = 8  # units that a cell is wide
ROW = 20  # units that a row is high
MARGIN = 4

# Apart for colour-blind eyes (after Okabe and Ito), dark enough on white; and light ones on black.
LIGHT = {
    "ink": "#1d2330",
    "quiet": "#5a6478",
    "line": "#b9c1cf",
    "paper": "#ffffff",
    "soft": "#eef1f6",
    "good": "#00704f",
    "bad": "#b23c00",
    "user-0": "#0060a0",
    "user-1": "#8a5a00",
    "user-2": "#9c3d76",
    "user-3": "#00704f",
    "user-4": "#6a4fb0",
    "user-5": "#a33b20",
    "band": "#dfe6f2",
}
DARK = {
    "ink": "#e6e9f0",
    "quiet": "#a2abbd",
    "line": "#4a5366",
    "paper": "#14171e",
    "soft": "#222733",
    "good": "#4cc9a0",
    "bad": "#ff9a66",
    "user-0": "#6cb8f0",
    "user-1": "#f0b94a",
    "user-2": "#e79cc6",
    "user-3": "#4cc9a0",
    "user-4": "#b8a4f0",
    "user-5": "#f08f78",
    "band": "#2c3547",
}


def variables(colours: dict[str, str]) -> str:
    """Colours as variables of CSS."""
    return "".join(f"--p-{name}:{colour};" for name, colour in colours.items())


USER_RULES = "".join(
    f".picture .user-{user}{{fill:var(--p-user-{user})}}"
    f".picture .stroke-{user}{{stroke:var(--p-user-{user})}}"
    for user in range(USERS)
)
STYLE = (
    f".picture{{{variables(LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{.picture{{{variables(DARK)}}}}}"
    f"@media print{{.picture{{{variables(LIGHT)}}}}}"
    ".picture text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',"
    "'Noto Sans Mono CJK SC',monospace;fill:var(--p-ink);white-space:pre}"
    ".picture .title{font-weight:600}"
    ".picture .dim,.picture .unknown{fill:var(--p-quiet)}"
    ".picture .accepted,.picture .answered{fill:var(--p-good)}"
    ".picture .refused,.picture .lost,.picture .loss{fill:var(--p-bad)}"
    ".picture .refused{font-weight:600}"
    ".picture .frame{fill:none;stroke:var(--p-line);stroke-width:1.5}"
    ".picture .host{fill:var(--p-paper)}.picture .ground{fill:var(--p-paper)}"
    ".picture .group,.picture .namespace{fill:none;stroke:var(--p-quiet);stroke-dasharray:4 3}"
    ".picture .namespace{stroke:var(--p-user-2)}"
    ".picture .door{fill:var(--p-soft);stroke-width:2}"
    ".picture .open{stroke:var(--p-good)}.picture .bound{stroke:var(--p-user-1)}"
    ".picture .shut{stroke:var(--p-bad);stroke-dasharray:5 3}"
    ".picture text.open,.picture text.bound,.picture text.shut{stroke:none;font-weight:600}"
    ".picture .place{fill:var(--p-paper);stroke:var(--p-quiet)}"
    ".picture .taken{fill:var(--p-ink);stroke:var(--p-ink)}"
    ".picture .arrow{fill:none;stroke-width:1.5}"
    ".picture .arrow.accepted{stroke:var(--p-good);fill:none}"
    ".picture .arrow.refused{stroke:var(--p-bad);fill:none;stroke-dasharray:5 3}"
    ".picture .cross{stroke:var(--p-bad);stroke-width:2.5;fill:none}"
    ".picture .band{fill:var(--p-band);stroke:var(--p-quiet);stroke-dasharray:2 3}"
    ".picture .bar{fill:var(--p-user-0)}.picture .wake-up{fill:var(--p-user-1)}"
    ".picture .span{stroke-width:6}.picture .end{stroke-width:2}"
    f"{USER_RULES}"
)


def to_svg(drawing: Drawing, label: str = "") -> str:
    """An SVG element of its own, to stand in HTML; `label` says in words what it shows."""
    return make_element(drawing, label, "")


def to_file(drawing: Drawing, label: str) -> str:
    """A whole SVG document, with its style and a ground of its own."""
    width, height = size_of(drawing)
    ground = (
        f'<rect x="{-MARGIN}" y="{-MARGIN}" width="{width}" height="{height}"'
        f' style="fill:var(--p-paper)"/>'
    )
    title = f"<title>{escape(label)}</title>"
    return make_element(drawing, label, f"{title}<style>{escape(STYLE)}</style>{ground}") + "\n"


def make_element(drawing: Drawing, label: str, before: str) -> str:
    """The element of a drawing, with something `before` its shapes."""
    width, height = size_of(drawing)
    shapes = "".join(map(draw_shape, drawing.shapes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" role="img"'
        f' viewBox="{-MARGIN} {-MARGIN} {width} {height}" width="{width}" height="{height}"'
        f" aria-label={quoteattr(label)}>{before}{shapes}</svg>"
    )


def size_of(drawing: Drawing) -> tuple[int, int]:
    """The width and the height of a drawing, with its margins, in units."""
    return drawing.columns * CELL + 2 * MARGIN, drawing.rows * ROW + 2 * MARGIN


def draw_shape(shape: Shape) -> str:
    """The elements of a shape."""
    match shape:
        case Words():
            return draw_words(shape)
        case Sign():
            return draw_sign(shape)
        case Box():
            return draw_box(shape)
        case Gauge():
            return draw_gauge(shape)
        case Arrow():
            return draw_arrow(shape)
        case Bar():
            width = max(shape.length * CELL, 1 if shape.length else 0)
            return rectangle(shape.column * CELL, shape.row * ROW + 4, width, ROW - 8, shape.style)
        case Band():
            width = (shape.end - shape.column) * CELL
            return rectangle(shape.column * CELL, shape.row * ROW, width, shape.rows * ROW, "band")
        case Columns():
            return draw_columns(shape)
        case Span():
            return draw_span(shape)


def draw_words(shape: Words) -> str:
    """A text, stretched or pressed to its cells whatever the font is."""
    text = shape.text.rstrip()
    start = len(text) - len(text.lstrip())
    text = text.lstrip()
    if not text:
        return ""
    width = cell_width(text) * CELL
    x, y = (shape.column + start) * CELL, shape.row * ROW + 14
    style = f' class="{shape.style}"' if shape.style else ""
    fit = f' textLength="{width}"'
    return f'<text x="{x}" y="{y}"{style}{fit}>{escape(text)}</text>'


def draw_sign(shape: Sign) -> str:
    """The sign of a user, as a path: a letter would look otherwise in each font."""
    x, y = shape.column * CELL + CELL / 2, shape.row * ROW + ROW / 2
    if shape.user < 0:
        return f'<circle cx="{x:g}" cy="{y:g}" r="4" class="place"/>'
    user = shape.user % USERS
    style = f'class="{user_style(shape.user)}"'
    if user == 0:
        return f'<circle cx="{x:g}" cy="{y:g}" r="5" {style}/>'
    outlines = {
        1: "M0-6 6 5H-6Z",
        2: "M-5-5H5V5H-5Z",
        3: "M0-6.5 6 0 0 6.5-6 0Z",
        4: "M0 6 6-5H-6Z",
        5: "M0-7 2-2 7-2 3 1.5 4.5 6.5 0 3.5-4.5 6.5-3 1.5-7-2-2-2Z",
    }
    return f'<path transform="translate({x:g} {y:g})" d="{outlines[user]}" {style}/>'


def draw_box(shape: Box) -> str:
    """A frame whose corners are in the middle of its cells; a door covers its cells."""
    x, y = shape.column * CELL, shape.row * ROW
    width, height = shape.width * CELL, shape.height * ROW
    if shape.style in ("open", "bound", "shut"):
        return rectangle(x, y, width, height, f"frame door {shape.style}", round_by=3)
    if shape.height == 1:
        return rectangle(x, y + 1, width, height - 2, f"frame {shape.style}", round_by=6)
    middle = CELL / 2, ROW / 2
    box = rectangle(
        x + middle[0],
        y + middle[1],
        width - CELL,
        height - ROW,
        f"frame {shape.style}",
        round_by=8 if shape.style == "host" else 6,
    )
    if not shape.title:
        return box
    cover = rectangle(x + 2 * CELL, y + 2, (cell_width(shape.title) + 2) * CELL, ROW - 4, "ground")
    style = "title" if shape.style == "host" else "dim"
    words = Words(shape.column + 3, shape.row, shape.title, style)
    return box + cover + draw_words(words)


def draw_gauge(shape: Gauge) -> str:
    """A row of places, those that are taken filled."""
    place = f"h{CELL - 2}v{ROW - 10}h{2 - CELL}z"
    y = shape.row * ROW + 5
    parts = []
    for start, end, style in ((0, shape.taken, "taken"), (shape.taken, shape.places, "place")):
        if start < end:
            x = (shape.column + start) * CELL + 1
            path = f"M{x} {y}{place}" + f"m{CELL} 0{place}" * (end - start - 1)
            parts.append(f'<path d="{path}" class="{style}"/>')
    return "".join(parts)


def draw_arrow(shape: Arrow) -> str:
    """A line with a head: a point where it is accepted, a cross where it is refused."""
    name, _, is_line = shape.style.partition(" ")
    spots = [(column * CELL + CELL / 2, row * ROW + ROW / 2) for column, row in shape.points]
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in spots)
    line = f'<path d="{path}" class="arrow {name}"/>'
    if is_line:
        return line
    (before, _), (x, y) = spots[-2:]
    way = 1 if x > before else -1
    if name == "refused":
        cross = f"M{x - 4:g} {y - 5:g}l8 10m0-10l-8 10"
        return f'{line}<path d="{cross}" class="cross"/>'
    head = f"M{x + way * 4:g} {y:g}l{-way * 9} -5v10z"
    return f'{line}<path d="{head}" class="{name}"/>'


def draw_columns(shape: Columns) -> str:
    """Small columns; a loss is hatched by gaps, and is named in words beside."""
    parts = []
    for number, height in enumerate(shape.heights, shape.column):
        if height:
            tall = height * (ROW - 4)
            y = shape.row * ROW + ROW - 2 - tall
            parts.append(f"M{number * CELL + 1} {y:g}h{CELL - 2}v{tall:g}h{2 - CELL}z")
    return f'<path d="{"".join(parts)}" class="{shape.style}"/>' if parts else ""


def draw_span(shape: Span) -> str:
    """A thick line, with a mark where it begins or ends."""
    user = "line" if shape.user < 0 else f"stroke-{shape.user % USERS}"
    x, end, y = shape.column * CELL, shape.end * CELL, shape.row * ROW + ROW / 2
    line = f'<path d="M{x:g} {y:g}H{end:g}" class="span {user}"/>'
    marks = [spot for spot, is_there in ((x, shape.begins), (end, shape.ends)) if is_there]
    return line + "".join(
        f'<path d="M{spot:g} {y - 8:g}v16" class="end {user}"/>' for spot in marks
    )


def rectangle(
    x: float, y: float, width: float, height: float, style: str, round_by: int = 0
) -> str:
    """A rectangle of a style."""
    rounded = f' rx="{round_by}"' if round_by else ""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{rounded}'
        f' class="{style}"/>'
    )
