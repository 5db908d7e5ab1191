"""Makes pages of what runs have left: `invoke lab.report`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus, UsageError
from labs.engine.kernels.comparison import Matrix, read_any_matrix
from labs.engine.kernels.matrix import count_words
from labs.engine.reading import elements, members, read_words
from labs.engine.replay import check_schema, explained, replay, replay_lines
from labs.engine.views.html import open_html_view, open_page, write_matrix
from labs.engine.views.json import LINES_SUFFIX
from labs.engine.views.report.kernels import show_content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.agent import Json
    from labs.engine.model import Event

FAULT = "holds no record that can be shown"
HINT = "invoke lab.all --json FILE writes one, and invoke kernel.matrix --json FILE."


def write_report(records: str, html: str | None) -> ExitStatus:
    """Write the page of the records in files, with commas between; UsageError for what are none.

    A matrix is a page of its own. The page shows what runs came to; written, it is a pass.
    """
    if html is None:
        raise UsageError("lab.report writes a page: --html FILE says where; - is standard output.")
    names = [name.strip() for name in records.split(",")]
    found = [read_record(name) for name in names]
    match found:
        case [Matrix() as matrix]:
            with open_page(html) as page:
                assert page
                write_matrix(show_content(matrix, count_words(matrix.results)), page)
            return ExitStatus.PASSED
    with open_html_view(html) as view:
        for name, each in zip(names, found, strict=True):
            if isinstance(each, Matrix):
                raise UsageError(f"{name} is a matrix, which is a page of its own.")
            for event in each:
                view(event)
    return ExitStatus.PASSED


def read_record(name: str) -> Sequence[Event] | Matrix:
    """What --json has written to a file; raises UsageError."""
    read = read_lines if name.endswith(LINES_SUFFIX) else read_document
    return read_words(name, read, FAULT, HINT)


def read_lines(words: str) -> Sequence[Event]:
    """The events of lines; raises ValueError."""
    return non_empty([*replay_lines(words.removesuffix("\n").split("\n"))])


def read_document(words: str) -> Sequence[Event] | Matrix:
    """The events or the matrix of a document; raises ValueError."""
    document: Json = json.loads(words)
    fields = members(document)
    if "kernels" not in fields:
        return non_empty([*replay(document)])
    schema = fields.get("schema")
    check_schema(schema)
    try:
        return read_any_matrix(fields)
    except ValueError as error:
        records = [run.get("record") for run in map(members, elements(fields.get("runs")))]
        raise explained(error, schema, next(filter(None, records), None)) from None


def non_empty(events: Sequence[Event]) -> Sequence[Event]:
    """The events; ValueError where there are none."""
    if not events:
        raise ValueError("it is empty")
    return events
