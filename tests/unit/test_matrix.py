"""The matrix: what is compared and what is said of it, on made-up kernels."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from referencing import Registry, Resource

from labs.engine.backends.fake import FakeBackend
from labs.engine.errors import ExitStatus, UsageError
from labs.engine.kernels.comparison import (
    Change,
    Matrix,
    Result,
    Step,
    find_changes,
    find_differences,
    find_skipped_steps,
    find_stops,
    make_result,
    read_matrix,
)
from labs.engine.kernels.matrix import (
    HOST,
    choose_columns,
    choose_labs,
    choose_usual,
    count_jobs,
    read_earlier,
    run_matrix,
    show_matrix,
)
from labs.engine.kernels.matrix import MatrixOptions as Options
from labs.engine.layout import Layout
from labs.engine.model import (
    Broken,
    Expectation,
    Failed,
    Measured,
    Ok,
    Outcome,
    Quantity,
    Refused,
    Skipped,
    Succeeded,
    Verdict,
)
from labs.engine.record import SCHEMA, Record
from labs.engine.runner import run_lab
from labs.engine.script import Run, lab
from labs.engine.views.matrix import MatrixView, split, wrap
from labs.engine.views.phrases import ranges, short_names
from tests.unit.trial import show_each_kind

if TYPE_CHECKING:
    from labs.engine.script import Lab

DOCS = Path(__file__).parents[2] / "docs"
REFUSED = Failed("EADDRINUSE", "bind")
IN_USE = Refused("EADDRINUSE", "bind")
PASSED, DIFFERS, SKIPPED = Verdict.PASSED, Verdict.DIFFERS, Verdict.SKIPPED


def a_step(
    outcome: Outcome | None,
    verdict: Verdict | None = PASSED,
    expected: Expectation = IN_USE,
    number: int = 1,
    title: str = "Bob asks",
) -> Step:
    return Step(number, title, expected, outcome, verdict)


def a_result(kernel: str, *steps: Step, lab: str = "euid", **changes: Any) -> Result:
    """What a lab with these steps came to."""
    verdicts = {step.verdict for step in steps}
    status = ExitStatus.DIFFERS if DIFFERS in verdicts else ExitStatus.PASSED
    result = Result(kernel, lab, status, record={"kernel": f"{kernel}.99-x"}, steps=steps)
    return replace(result, **changes)


def a_matrix(*results: Result) -> Matrix:
    return Matrix(
        tuple(dict.fromkeys(result.kernel for result in results)),
        tuple(dict.fromkeys(result.lab for result in results)),
        results,
    )


def shown(matrix: Matrix, monkeypatch: pytest.MonkeyPatch, width: int = 80) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    show_matrix(MatrixView(stream), matrix)
    return stream.getvalue()


# --- differences between kernels ----------------------------------------------------------


def test_kernels_that_differ_are_told_with_both_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = a_matrix(
        a_result("5.10", a_step(Succeeded(), DIFFERS)),
        a_result("6.1", a_step(REFUSED)),
        a_result("6.12", a_step(REFUSED)),
    )
    (difference,) = find_differences(matrix)
    assert [(each.kernels, each.text, each.verdict) for each in difference.answers] == [
        (("5.10",), "OK", DIFFERS),
        (("6.1", "6.12"), "EADDRINUSE from bind()", PASSED),
    ]
    text = shown(matrix, monkeypatch)
    assert "1  Bob asks\n      expected EADDRINUSE from bind()\n" in text
    assert "5.10       OK\n" in text
    assert "6.1, 6.12  EADDRINUSE from bind()\n" in text
    assert "euid  differs  pass    pass\n" in text


def test_kernels_that_are_alike_have_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = a_matrix(a_result("5.10", a_step(REFUSED)), a_result("6.1", a_step(REFUSED)))
    assert find_differences(matrix) == []
    assert "No step differs between the kernels" in shown(matrix, monkeypatch)


def test_what_differs_on_all_kernels_alike_is_told_as_well() -> None:
    step = a_step(Succeeded(), DIFFERS)
    (difference,) = find_differences(a_matrix(a_result("5.10", step), a_result("6.1", step)))
    assert [each.kernels for each in difference.answers] == [("5.10", "6.1")]


def test_a_quantity_within_its_bounds_is_no_difference() -> None:
    def shares(first: float, second: float, verdict: Verdict) -> int:
        bound = Measured("wake-ups", 5, 15)
        steps = [
            a_step(Quantity("wake-ups", 7), PASSED, bound),
            a_step(Quantity("wake-ups", first, {"alice": first}), PASSED, bound),
            a_step(Quantity("wake-ups", second), verdict, bound),
        ]
        return len(
            find_differences(a_matrix(*(a_result(f"{n}", step) for n, step in enumerate(steps))))
        )

    assert shares(9, 14, PASSED) == 0
    assert shares(9, 20, DIFFERS) == 1


def test_another_verdict_is_a_difference_though_the_outcome_is_not() -> None:
    matrix = a_matrix(
        a_result("5.10", a_step(Succeeded(), DIFFERS)),
        a_result("6.1", a_step(Succeeded(), PASSED, Ok())),
    )
    (difference,) = find_differences(matrix)
    assert difference.expected == "EADDRINUSE from bind() or OK"


def test_a_skipped_step_is_a_difference_only_where_others_do_it() -> None:
    skipped = a_step(Skipped("no such option", "6.3"), SKIPPED)
    alike = a_matrix(a_result("5.10", skipped), a_result("6.1", skipped))
    assert find_differences(alike) == []
    (steps,) = find_skipped_steps(alike)
    assert (steps.numbers, steps.kernels) == ((1,), ("5.10", "6.1"))
    assert steps.reason == "no such option (since 6.3)"
    other = a_matrix(a_result("5.10", skipped), a_result("6.12", a_step(REFUSED)))
    (difference,) = find_differences(other)
    assert difference.answers[0].text == "skipped: no such option (since 6.3)"
    assert [*find_skipped_steps(other)] == []


def test_a_run_that_stopped_early_lacks_no_steps_and_another_one_does() -> None:
    first, second = a_step(REFUSED), a_step(REFUSED, number=2, title="Alice asks")
    whole = a_result("5.10", first, second)
    stopped = a_result("6.1", first, status=ExitStatus.FAILED, error="It has died.")
    assert find_differences(a_matrix(whole, stopped)) == []
    (difference,) = find_differences(a_matrix(whole, a_result("6.1", first)))
    assert (difference.number, difference.answers[1].text) == (2, "no such step")


def test_a_step_with_another_title_is_another_step() -> None:
    matrix = a_matrix(
        a_result("5.10", a_step(REFUSED)), a_result("6.1", a_step(REFUSED, title="Alice asks"))
    )
    assert len(find_differences(matrix)) == 2


@pytest.mark.parametrize(("outcome", "verdict"), [(None, None), (Broken("x died"), Verdict.FAILED)])
def test_a_step_that_was_not_carried_through_is_no_pass(
    outcome: Outcome | None, verdict: Verdict | None
) -> None:
    matrix = a_matrix(a_result("5.10", a_step(outcome, verdict)), a_result("6.1", a_step(REFUSED)))
    (difference,) = find_differences(matrix)
    assert difference.answers[0].text == "not carried through"


def test_a_reason_is_told_once_for_all_that_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [
        Result(kernel, name, ExitStatus.CANNOT_RUN, "It was not fetched.", "fetch it")
        for kernel in ("5.10", "6.1")
        for name in ("euid", "queue")
    ]
    passed = [a_result(HOST, a_step(REFUSED), lab=name) for name in ("euid", "queue")]
    matrix = a_matrix(*results, *passed)
    (stop,) = find_stops(matrix)
    assert (stop.labs, stop.kernels) == (("euid", "queue"), ("5.10", "6.1"))
    text = shown(matrix, monkeypatch)
    assert "every lab on 5.10, 6.1\n    It was not fetched.\n      fetch it\n" in text
    assert "euid   skipped  skipped  pass\n" in text


def test_a_pass_with_skipped_steps_says_so() -> None:
    steps = (a_step(REFUSED), a_step(Skipped("?"), SKIPPED, number=2))
    assert a_result("6.1", *steps).word == "pass 1/2"
    assert a_result("6.1", steps[0]).word == "pass"


# --- two matrices -------------------------------------------------------------------------

BEFORE = a_matrix(
    a_result("5.10", a_step(REFUSED)),
    a_result("6.1", a_step(REFUSED)),
    a_result("5.10", a_step(REFUSED), lab="queue"),
    a_result("6.1", a_step(REFUSED), lab="queue"),
)


def test_a_matrix_has_not_changed_from_itself() -> None:
    changes = find_changes(BEFORE, BEFORE)
    assert (changes.changes, changes.new) == ((), ())


def test_a_changed_outcome_is_told_once_for_all_its_kernels() -> None:
    changed = [a_result(kernel, a_step(Succeeded(), DIFFERS)) for kernel in ("5.10", "6.1")]
    after = a_matrix(*changed, *BEFORE.results[2:])
    assert find_changes(BEFORE, after).changes == (
        Change("euid", 0, "", ("5.10", "6.1"), "pass", "differs"),
        Change(
            "euid", 1, "Bob asks", ("5.10", "6.1"), "EADDRINUSE from bind()", "OK, not as expected"
        ),
    )


def test_a_kernel_or_lab_that_is_missing_is_a_change_and_a_new_one_is_none() -> None:
    less = a_matrix(a_result("5.10", a_step(REFUSED)))
    changes = find_changes(BEFORE, less)
    assert {change.lab for change in changes.changes} == {"the kernel 6.1", "the lab queue"}
    changes = find_changes(less, BEFORE)
    assert changes.changes == ()
    assert changes.new == ("the kernel 6.1", "the lab queue")


def test_a_run_that_stops_now_is_one_change() -> None:
    stopped = Result("5.10", "euid", ExitStatus.FAILED, "It has died.")
    after = a_matrix(stopped, *BEFORE.results[1:])
    assert find_changes(BEFORE, after).changes == (
        Change("euid", 0, "", ("5.10",), "pass", "failed"),
    )


# --- the document -------------------------------------------------------------------------


@lab("trial", title="One step of each kind")
def trial(run: Run) -> None:
    show_each_kind(run)


@pytest.fixture(scope="module")
def measured() -> Matrix:
    record = Record()
    status = run_lab(trial, FakeBackend(), Layout(None), [record])
    ran = make_result(HOST, "trial", status, ("", ""), json.loads(json.dumps(record.to_json())))
    absent = Result("6.1", "trial", ExitStatus.CANNOT_RUN, "Not fetched.", "fetch it")
    return a_matrix(ran, absent)


def schema(name: str) -> Any:
    return json.loads((DOCS / f"{name}.schema.json").read_text())


def test_the_document_is_as_published(measured: Matrix) -> None:
    registry = Registry().with_resource(
        "record.schema.json", Resource.from_contents(schema("record"))
    )
    validator = jsonschema.Draft202012Validator(schema("matrix"), registry=registry)
    validator.check_schema(schema("matrix"))
    document = json.loads(json.dumps(measured.to_json()))
    validator.validate(document)
    document["runs"][0]["record"]["steps"][0]["mood"] = "good"
    assert not validator.is_valid(document)


def test_the_document_is_read_as_it_was(measured: Matrix) -> None:
    read = read_matrix(json.loads(json.dumps(measured.to_json())))
    assert read == measured
    assert [result.steps for result in read.results] == [r.steps for r in measured.results]
    assert [step.number for step in read.results[0].steps] == [1, 2, 3, 4]
    assert [find_changes(read, measured).changes, find_changes(measured, read).changes] == [(), ()]


def spoilt(document: Any, how: str) -> Any:
    run = document["runs"][0]
    match how:
        case "a list":
            return [document]
        case "a record":
            return {"schema": SCHEMA, "runs": [run["record"]]}
        case "schema":
            document["schema"] = 1
        case "kernel":
            run["kernel"] = "7.2"
        case "status":
            run["status"] = 5
        case "twice":
            document["runs"].append(run)
        case "outcome":
            run["record"]["steps"][0]["outcome"] = {"kind": "fine"}
        case "steps":
            run["record"]["steps"] = None
    return document


@pytest.mark.parametrize(
    "how", ["a list", "a record", "schema", "kernel", "status", "twice", "outcome", "steps"]
)
def test_what_is_no_matrix_is_a_usage_error(how: str, measured: Matrix, tmp_path: Path) -> None:
    file = tmp_path / "earlier.json"
    file.write_text(json.dumps(measured.to_json()))
    assert read_earlier(str(file)) == measured
    file.write_text(json.dumps(spoilt(json.loads(file.read_text()), how)))
    with pytest.raises(UsageError, match=r"earlier\.json is no matrix"):
        read_earlier(str(file))


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot read"):
        read_earlier(str(tmp_path / "nothing"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is no matrix"):
        read_earlier(str(tmp_path / "binary"))


# --- options ------------------------------------------------------------------------------

LABS: list[Lab] = [trial]


def test_kernels_are_in_the_order_of_the_list_each_once() -> None:
    names = [column.name for column in choose_columns("7.2,host,uml,7.2")]
    assert names == ["7.2", HOST, "5.10", "6.1", "6.12"]


@pytest.mark.parametrize("text", ["9.9", ",", "host,nonsense"])
def test_an_unknown_kernel_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        choose_columns(text)


def test_an_unknown_lab_is_a_usage_error() -> None:
    assert choose_labs(LABS, "trial") == LABS
    with pytest.raises(UsageError, match="there are trial"):
        choose_labs(LABS, "trial,trail")


def test_kernels_that_were_not_fetched_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("labs.engine.kernels.matrix.find_lacks", lambda _machine: [])
    assert [column.name for column in choose_usual()] == [HOST]
    assert "invoke kernel.fetch 5.10,6.1,6.12,7.2\n" in capsys.readouterr().err


def test_as_many_jobs_as_memory_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    for memory, jobs in ((100, 1), (1000, 3), (1 << 20, 8)):
        monkeypatch.setattr("labs.engine.kernels.matrix.available_memory", lambda m=memory: m)
        assert count_jobs(None) == jobs
    assert count_jobs(20) == 20
    with pytest.raises(UsageError):
        count_jobs(0)


def test_events_have_no_place_in_a_matrix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one document"):
        run_matrix(LABS, Options("6.1", json=str(tmp_path / "all.jsonl")))


# --- the view -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_table_is_never_wider_than_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = [f"6.{number}" for number in range(12)]
    long = a_step(REFUSED, title="A title that goes on for longer than any terminal " * 2)
    other = replace(long, outcome=Succeeded(), verdict=DIFFERS)
    results = [a_result(kernel, long, lab="reuseport-dualstack") for kernel in kernels]
    results[3] = a_result(kernels[3], other, lab="reuseport-dualstack")
    text = shown(a_matrix(*results), monkeypatch, width)
    assert max(map(len, text.splitlines())) <= width, text
    table = text.partition("\n\nSteps that differ")[0]
    assert [word for word in table.split() if word in kernels] == kernels
    assert table.split().count("pass") == 11


def test_a_block_has_a_column_however_narrow_it_is() -> None:
    columns = [["lab"], ["a" * 50], ["b" * 50]]
    assert [*split(columns, 20)] == [[["lab"], ["a" * 50]], [["lab"], ["b" * 50]]]


def test_text_is_wrapped_between_words() -> None:
    assert wrap("aa bb cc dd", 8, 5) == ["aa bb cc", "dd"]
    assert wrap("name   a long text", 13, 9) == ["name   a long", "text"]
    assert wrap("", 8, 5) == [""]


def test_names_are_short_where_that_is_clear() -> None:
    assert short_names(["6.1", "./linux", "/b/vmlinux"]) == ["6.1", "linux", "vmlinux"]
    assert short_names(["a/linux", "b/linux"]) == ["a/linux", "b/linux"]
    assert ranges([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"
