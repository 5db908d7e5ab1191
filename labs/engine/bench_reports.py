"""Measures the page of all labs: our own time for it beside the run's, and its size."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from labs.engine.bench_command import time_invoke
from labs.engine.bench_rows import Comparison, show_seconds
from labs.engine.replay import replay_lines
from labs.engine.views.html import open_html_view

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 3
TIME_LIMIT = 1.0  # seconds
SIZE_LIMIT = 2.0  # megabytes
MEGABYTE = 1_000_000


def compare_reports() -> Iterator[Comparison]:
    """All that a page takes of our own time against the run of all labs, and its size likewise."""
    with tempfile.TemporaryDirectory(prefix="bindlab-") as name:
        record, page = Path(name, "all.jsonl"), Path(name, "all.html")
        run = time_invoke("lab.all", "--json", str(record))
        ours = median(time_page(record, page) for _ in range(ROUNDS))
        sizes = [path.stat().st_size / MEGABYTE for path in (page, record)]
    yield Comparison(
        name="the page of lab.all : the run",
        ours=show_seconds(ours),
        other=show_seconds(run),
        ratio=ours / run,
        limit=f"<={TIME_LIMIT:g} s",
        within=ours <= TIME_LIMIT,
    )
    yield Comparison(
        name="the page of lab.all, in MB : its record",
        ours=f"{sizes[0]:.2f}",
        other=f"{sizes[1]:.2f}",
        ratio=sizes[0] / sizes[1],
        limit=f"<={SIZE_LIMIT:g}",
        within=sizes[0] <= SIZE_LIMIT,
    )


def time_page(record: Path, page: Path) -> float:
    """How long it takes to digest events as they come and to write their page, in seconds.

    To read them is left out: in a run they are there.
    """
    start = perf_counter()
    with record.open(encoding="utf-8") as lines, open_html_view(str(page)) as view:
        reading = 0.0
        events = replay_lines(lines)
        while True:
            before = perf_counter()
            event = next(events, None)
            reading += perf_counter() - before
            if event is None:
                break
            view(event)
    return perf_counter() - start - reading
