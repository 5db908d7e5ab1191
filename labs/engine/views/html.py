"""The HTML view: runs, the matrix and a class, each as one page that needs nothing else.

Here alone is Jinja2.
"""

from __future__ import annotations

import contextlib
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from labs.engine.pictures.svg import STYLE
from labs.engine.strace import printable
from labs.engine.translation import read_translation
from labs.engine.version import VERSION
from labs.engine.views.digest import COLUMNS
from labs.engine.views.json import open_stream, open_whole_view
from labs.engine.views.report.fold import WORDS, Anchors, Fold
from labs.engine.views.report.summary import sum_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from jinja2 import Environment

    from labs.engine.model import Event
    from labs.engine.translation import Say
    from labs.engine.views.report.kernels import MatrixContent
    from labs.engine.views.report.learners import ClassContent

TEMPLATES = Path(__file__).parent / "report"
HEADINGS = {"columns": COLUMNS, "uids": ("real", "effective", "saved", "file-system")}
AT_ONCE = 1024  # characters: what a pipe takes whole or not at all
MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:Z|\+00:00)")


class HtmlView:
    """Digests runs as they go on, and writes them as a page when the last is over."""

    def __init__(self) -> None:
        self._fold = Fold(Anchors())

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        self._fold(event)

    def write(self, stream: TextIO) -> None:
        """Write the page."""
        runs = self._fold.runs
        write_page(
            "runs.j2",
            {"runs": runs, "summary": sum_up(runs), "pictures": STYLE, **HEADINGS},
            stream,
        )


def open_html_view(name: str) -> AbstractContextManager[HtmlView]:
    """The view that writes to a file, `-` being standard output.

    It is opened at once, and replaced whole when the block ends without an error or not at all, as
    the record is. UsageError where it cannot be opened, EngineError where the writing fails.
    """
    return open_whole_view(name, HtmlView())


@contextlib.contextmanager
def open_page(name: str | None) -> Iterator[TextIO | None]:
    """Where a page goes, as for `open_html_view`; None for no name."""
    if name is None:
        yield None
        return
    with open_stream(name) as stream:
        yield stream


def write_matrix(matrix: MatrixContent, stream: TextIO) -> None:
    """Write the page of a matrix."""
    write_page("matrix.j2", {"matrix": matrix, "version": VERSION}, stream)


def write_class(table: ClassContent, stream: TextIO) -> None:
    """Write the page of a class."""
    write_page("class.j2", {"class": table, "version": VERSION}, stream)


def write_page(template: str, values: Mapping[str, object], stream: TextIO) -> None:
    """Write the page that a template makes of values; raises OSError where that cannot be done."""
    page = environment().get_template(template).render(values)
    encoding = stream.encoding or "utf-8"
    # A letter that the stream cannot have is written by its number.
    written = page.encode(encoding, "xmlcharrefreplace").decode(encoding)
    # Without a buffer Python forgets what a pipe did not take whose reader left in the middle.
    stream.writelines(written[start : start + AT_ONCE] for start in range(0, len(written), AT_ONCE))


@functools.cache
def environment() -> Environment:
    """Jinja2 as the templates need it: all that is filled in is text unless it says otherwise."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["moment"] = moment
    made.globals["translator"] = translator
    return made


def finalize(value: object) -> object:
    """What takes an expression's place in a page."""
    # What is Markup already has been made by a template, of parts that came through here.
    return printable(value, keeping="\n") if type(value) is str else value


def translator(language: str) -> Say:
    """What translates into a language."""
    return read_translation(WORDS, language).text


def moment(started: str) -> tuple[str, str]:
    """A moment of a record for machines and for people; nothing for machines where it is none."""
    found = MOMENT.fullmatch(started)
    return (started, f"{found[1]} {found[2]} UTC") if found else ("", started)
