"""The pages of the matrix and of a class: their tables, and what is said under them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from labs.engine.catalogue import find_labs
from labs.engine.classes.classroom import ClassOptions, run_class
from labs.engine.classes.result import Outcome
from labs.engine.classes.result import Result as LearnersResult
from labs.engine.classes.table import Table
from labs.engine.errors import ExitStatus, UsageError
from labs.engine.kernels.comparison import Result, find_changes
from labs.engine.kernels.matrix import MatrixOptions, run_matrix
from labs.engine.model import Quantity, Skipped, Succeeded, Verdict
from labs.engine.record import SCHEMA
from labs.engine.reporting import write_report
from labs.engine.views.html import write_class, write_matrix
from labs.engine.views.report.kernels import show_content
from labs.engine.views.report.learners import show_class
from tests.pages import check_page, find_class, read
from tests.unit.test_html import HOSTILE, SHOWN
from tests.unit.test_matrix import REFUSED, a_matrix, a_result, a_step

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree import ElementTree as ET

    from labs.engine.kernels.comparison import Matrix
    from labs.engine.views.report.kernels import MatrixContent

AGAIN = a_step(REFUSED, number=2, title="Again")
MIXED = a_matrix(
    a_result(
        "5.10", a_step(Succeeded(), Verdict.DIFFERS), a_step(REFUSED, number=2, title="Again")
    ),
    a_result("6.1", a_step(REFUSED), a_step(REFUSED, number=2, title="Again")),
    a_result("5.10", a_step(Skipped("no BPF", "4.5"), Verdict.SKIPPED), lab="balance"),
    a_result("6.1", a_step(Skipped("no BPF", "4.5"), Verdict.SKIPPED), lab="balance"),
    Result("5.10", "fork", ExitStatus.CANNOT_RUN, "Not fetched.", "Fetch it.\n  like this"),
    a_result("6.1", a_step(REFUSED), lab="fork"),
)


def matrix_page(content: MatrixContent) -> ET.Element:
    stream = io.StringIO()
    write_matrix(content, stream)
    return check_page(stream.getvalue())


def rows_of(page: ET.Element, number: int = 0) -> list[str]:
    return [" ".join(map(read, row)) for row in [*page.iter("table")][number].iter("tr")]


def test_the_matrix_has_a_row_for_each_lab_and_a_column_for_each_kernel() -> None:
    page = matrix_page(show_content(MIXED, "3 labs on 2 kernels"))
    assert read(next(page.iter("h1"))) == "✘ otherwise"
    assert rows_of(page) == [
        "lab 5.10 5.10.99 6.1 6.1.99",
        "euid ✘ differs ✔ pass",
        "balance ✔ pass 0/1 ✔ pass 0/1",
        "fork – skipped ✔ pass",
    ]


def test_under_the_matrix_stands_what_is_not_alike() -> None:
    page = matrix_page(show_content(MIXED, "3 labs on 2 kernels"))
    (difference,) = find_class(page, "step")
    assert read(difference).startswith("euid 1 Bob asks expected EADDRINUSE from bind()")
    assert rows_of(page, 1) == [
        "kernels verdict observed",
        "5.10 ✘ otherwise OK",
        "6.1 ✔ as expected EADDRINUSE from bind()",
    ]
    stops, skipped = (read(part) for part in find_class(page, "items"))
    assert stops == ("Not run, or not to the end fork on 5.10 Not fetched. Fetch it. like this")
    assert skipped == "Skipped steps balance, step 1 on all kernels no BPF (since 4.5)"


def test_kernels_that_are_alike_say_so() -> None:
    page = matrix_page(show_content(a_matrix(a_result("6.1", a_step(REFUSED))), "1 lab"))
    assert "No step differs between the kernels" in read(page)
    assert read(next(page.iter("h1"))) == "✔ as expected"


def test_what_changed_since_an_earlier_matrix() -> None:
    before = a_matrix(a_result("6.1", a_step(Succeeded(), Verdict.DIFFERS)))
    after = a_matrix(a_result("6.1", a_step(REFUSED)), a_result("6.2", a_step(REFUSED)))
    changes = find_changes(before, after)
    page = matrix_page(show_content(after, "", ("old.json", changes, ["6.1 was 6.1.1, is 6.1.2"])))
    assert read(next(page.iter("h1"))) == "✘ changed"
    changed, notes = (read(part) for part in find_class(page, "items"))
    assert changed.startswith("Changed since old.json euid on 6.1 was differs, is pass")
    assert "the kernel 6.2" in notes
    assert "6.1 was 6.1.1, is 6.1.2" in notes
    same = matrix_page(show_content(after, "", ("old.json", find_changes(after, after), [])))
    assert "Nothing changed since old.json" in read(same)


def test_names_in_the_matrix_are_text() -> None:
    step = a_step(Quantity(HOSTILE, 1), Verdict.DIFFERS, title=HOSTILE)
    stop = Result("6.1", HOSTILE, ExitStatus.FAILED, HOSTILE, HOSTILE)
    page = matrix_page(show_content(a_matrix(a_result(HOSTILE, step), stop), HOSTILE))
    assert read(page).count(SHOWN) > 5


# --- a matrix that was kept ---------------------------------------------------------------


def report(document: Any, folder: Path) -> ET.Element:
    (folder / "matrix.json").write_text(json.dumps(document))
    page = folder / "page.html"
    assert write_report(str(folder / "matrix.json"), str(page)) is ExitStatus.PASSED
    return check_page(page.read_text())


def kept(matrix: Matrix, schema: int = SCHEMA) -> Any:
    """Its document; made-up results have no record, and so no steps."""
    results = tuple(replace(result, record=None) for result in matrix.results)
    document: Any = json.loads(json.dumps(replace(matrix, results=results).to_json()))
    return document | {"schema": schema}


def test_a_matrix_that_was_kept(tmp_path: Path) -> None:
    for schema in (SCHEMA, SCHEMA - 1):
        page = report(kept(MIXED, schema), tmp_path)
        assert rows_of(page)[1] == "euid ✘ differs ✔ pass"
        assert "4 pass, 1 differs, 1 skipped" in read(page)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": SCHEMA + 1}, "which a newer bindlab wrote"),
        ({"runs": [{}]}, "None is no str"),
        ({"kernels": []}, "a kernel that it does not name"),
    ],
)
def test_a_matrix_that_cannot_be_shown(changes: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        report(kept(MIXED) | changes, tmp_path)


def test_a_matrix_is_a_page_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(kept(MIXED)))
    with pytest.raises(UsageError, match="a page of its own"):
        write_report(f"{tmp_path}/a.json,{tmp_path}/a.json", str(tmp_path / "page.html"))
    assert not (tmp_path / "page.html").exists()


# --- a class ------------------------------------------------------------------------------


def test_the_class_table_as_a_page() -> None:
    table = Table(
        "euid",
        (
            LearnersResult("Ada", Outcome(ExitStatus.PASSED), "one", 1.25),
            LearnersResult(HOSTILE, None, "two", attempts=3, reason="two is down."),
            LearnersResult("李雷", Outcome(ExitStatus.CANNOT_RUN, "It is too old.", "Take 5.6.")),
        ),
    )
    stream = io.StringIO()
    write_class(show_class(table), stream)
    page = check_page(stream.getvalue())
    assert read(next(page.iter("h1"))) == "! not carried through"
    assert rows_of(page) == [
        "learner verdict steps seconds node",
        "Ada ✔ pass  1.2 one",
        f"{SHOWN} ! no result   two",
        "李雷 – skipped  0.0 ",
    ]
    (problems,) = find_class(page, "items")
    assert "李雷 It is too old. Take 5.6." in read(problems)
    assert f"{SHOWN} two is down." in read(problems)


# --- standard output ----------------------------------------------------------------------


def test_two_documents_do_not_go_to_standard_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one document"):
        run_matrix([], MatrixOptions("host", json="-", html="-"))
    roster = tmp_path / "learners"
    roster.write_text("Ada\n")
    with pytest.raises(UsageError, match="one document"):
        run_class(find_labs(), ClassOptions(str(roster), json="-", html="-"))
