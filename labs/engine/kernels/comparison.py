"""What the labs showed on each kernel, as data; where kernels, or two such runs, are not alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus
from labs.engine.model import Expectation, Outcome, Quantity, Skipped, Verdict
from labs.engine.reading import elements, find, members, read_status, read_text, reader
from labs.engine.record import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from labs.engine.agent import Json

WORDS = {
    ExitStatus.PASSED: "pass",
    ExitStatus.DIFFERS: "differs",
    ExitStatus.UNSOLVED: "unsolved",
    ExitStatus.CANNOT_RUN: "skipped",
    ExitStatus.FAILED: "failed",
}
NO_STEP = "no such step"
BROKEN = "not carried through"


@dataclass(frozen=True)
class Step:
    """A step as one kernel carried it out; without a verdict it did not come to its end."""

    number: int
    title: str
    expected: Expectation
    outcome: Outcome | None
    verdict: Verdict | None

    @property
    def place(self) -> tuple[int, str]:
        """What makes it the same step on another kernel."""
        return self.number, self.title

    @property
    def answer(self) -> Hashable:
        """What is compared; a quantity that is as expected may be another one each time."""
        match self.outcome:
            case Quantity(what) if self.verdict is Verdict.PASSED:
                return self.verdict, what
            case Quantity(what, value):
                return self.verdict, what, value
        return self.verdict, str(self)

    def __str__(self) -> str:
        match self.outcome:
            case Quantity() if self.verdict is Verdict.PASSED:
                return str(self.expected)
            case Skipped():
                return f"skipped: {self.outcome}"
        return BROKEN if self.verdict in (None, Verdict.FAILED) else str(self.outcome)


@dataclass(frozen=True)
class Result:
    """What came of one lab on one kernel; without a record it did not get to its start."""

    kernel: str
    lab: str
    status: ExitStatus
    error: str = ""
    hint: str = ""
    record: Mapping[str, Json] | None = None
    steps: tuple[Step, ...] = field(default=(), compare=False)

    @property
    def is_whole(self) -> bool:
        """Whether the lab's script came to its end."""
        return self.record is not None and not self.error

    @property
    def word(self) -> str:
        """What a table says of it: a pass with skipped steps says how many passed."""
        word = WORDS[self.status]
        passed = sum(step.verdict is Verdict.PASSED for step in self.steps)
        is_part = self.status is ExitStatus.PASSED and passed < len(self.steps)
        return f"{word} {passed}/{len(self.steps)}" if is_part else word

    def to_json(self) -> dict[str, Json]:
        """One run of the document."""
        return {
            "kernel": self.kernel,
            "lab": self.lab,
            "status": int(self.status),
            "error": self.error,
            "hint": self.hint,
            "record": dict(self.record) if self.record is not None else None,
        }


@dataclass(frozen=True)
class Matrix:
    """Every lab on every kernel, by their names; results in any order."""

    kernels: tuple[str, ...]
    labs: tuple[str, ...]
    results: tuple[Result, ...]

    def at(self, lab: str) -> Sequence[Result]:
        """A lab's results, in the order of the kernels."""
        results = {result.kernel: result for result in self.results if result.lab == lab}
        return [results[kernel] for kernel in self.kernels if kernel in results]

    def find_run(self, kernel: str, name: str) -> str:
        """What the records of a kernel say under a name; empty where there is none."""
        records = (result.record for result in self.results if result.kernel == kernel)
        return next((str(record[name]) for record in records if record), "")

    def to_json(self) -> dict[str, Json]:
        """The JSON document, in the form of docs/matrix.schema.json."""
        kernels: list[Json] = [
            {
                "name": kernel,
                "machine": self.find_run(kernel, "machine"),
                "release": self.find_run(kernel, "kernel"),
            }
            for kernel in self.kernels
        ]
        runs: list[Json] = [result.to_json() for lab in self.labs for result in self.at(lab)]
        return {"schema": SCHEMA, "kernels": kernels, "runs": runs}


# --- from JSON ----------------------------------------------------------------------------


def read_matrix(document: Json) -> Matrix:
    """The matrix of a JSON document; ValueError with the reason where it holds none."""
    fields = members(document)
    if fields.get("schema") != SCHEMA or "kernels" not in fields:
        raise ValueError("it is no matrix of this form")
    return read_any_matrix(fields)


def read_any_matrix(fields: Mapping[str, Json]) -> Matrix:
    """The matrix of a document of this schema or an older one; raises ValueError."""
    kernels = [read_text(members(kernel), "name") for kernel in elements(fields["kernels"])]
    results = [read_result(members(run)) for run in elements(fields.get("runs"))]
    cells = Counter((result.kernel, result.lab) for result in results)
    if not cells.keys() <= {(kernel, lab) for kernel in kernels for _, lab in cells}:
        raise ValueError("it has a run on a kernel that it does not name")
    if any(count > 1 for count in cells.values()):
        raise ValueError("it has two runs of one lab on one kernel")
    labs = dict.fromkeys(result.lab for result in results)
    return Matrix(tuple(kernels), tuple(labs), tuple(results))


def read_result(run: Mapping[str, Json]) -> Result:
    """A run of the document; raises ValueError."""
    texts = [read_text(run, name) for name in ("kernel", "lab", "error", "hint")]
    status = read_status(run)
    record = run.get("record")
    return make_result(texts[0], texts[1], status, (texts[2], texts[3]), record)


def make_result(
    kernel: str, lab: str, status: ExitStatus, error: tuple[str, str], record: Json
) -> Result:
    """A result, `error` with its hint; ValueError where the record is none."""
    if record is None:
        return Result(kernel, lab, status, *error)
    fields = members(record)
    steps = [read_step(members(step)) for step in elements(fields.get("steps"))]
    for name in ("kernel", "machine"):
        read_text(fields, name)
    return Result(kernel, lab, status, *error, record=fields, steps=tuple(steps))


def read_step(step: Mapping[str, Json]) -> Step:
    """A step of a record; raises ValueError."""
    outcome, verdict = step.get("outcome"), step.get("verdict")
    return Step(
        reader(int)(step.get("number")),
        read_text(step, "title"),
        reader(Expectation)(step.get("expected")),
        None if outcome is None else reader(Outcome, is_older=True)(outcome),
        None if verdict is None else find(verdict, {each.value: each for each in Verdict}),
    )


# --- kernels that are not alike -----------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What some kernels did; no verdict where they have no such step."""

    kernels: tuple[str, ...]
    text: str
    verdict: Verdict | None


@dataclass(frozen=True)
class Difference:
    """A step that is not the same on all kernels, or not as expected."""

    lab: str
    number: int
    title: str
    expected: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class SkippedSteps:
    """Steps that some kernels skip, for one reason."""

    lab: str
    numbers: tuple[int, ...]
    kernels: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Stop:
    """Why some labs did not come to their end on some kernels."""

    labs: tuple[str, ...]
    kernels: tuple[str, ...]
    error: str
    hint: str


def find_differences(matrix: Matrix) -> Sequence[Difference]:
    """The steps that differ between kernels or from what is expected, in the labs' order."""
    return [
        difference
        for lab in matrix.labs
        for place in list_places(matrix.at(lab))
        if (difference := compare_step(matrix.at(lab), place))
    ]


def list_places(results: Sequence[Result]) -> Sequence[tuple[int, str]]:
    """All steps that one of the kernels came to, in their order."""
    places = dict.fromkeys(step.place for result in results for step in result.steps)
    return sorted(places, key=lambda place: place[0])


def compare_step(results: Sequence[Result], place: tuple[int, str]) -> Difference | None:
    """How a lab's step went on each kernel that came to it; None where all is as expected."""
    kernels: dict[Hashable, list[str]] = {}
    found: dict[Hashable, Step | None] = {}
    for result in results:
        step = next((step for step in result.steps if step.place == place), None)
        if step or result.is_whole:
            answer = step.answer if step else None
            kernels.setdefault(answer, []).append(result.kernel)
            found.setdefault(answer, step)
    steps = [step for step in found.values() if step]
    if len(found) == 1 and steps[0].verdict in (Verdict.PASSED, Verdict.SKIPPED):
        return None
    answers = [
        Answer(
            tuple(kernels[answer]), str(step) if step else NO_STEP, step.verdict if step else None
        )
        for answer, step in found.items()
    ]
    expected = " or ".join(dict.fromkeys(str(step.expected) for step in steps))
    return Difference(results[0].lab, *place, expected, tuple(answers))


def find_skipped_steps(matrix: Matrix) -> Iterator[SkippedSteps]:
    """The steps that all kernels skip which come to them, by lab and reason."""
    for lab in matrix.labs:
        results = matrix.at(lab)
        numbers: dict[tuple[tuple[str, ...], str], list[int]] = {}
        for place in list_places(results):
            if compare_step(results, place) is None:
                found = [
                    (result.kernel, step)
                    for result in results
                    for step in result.steps
                    if step.place == place and step.verdict is Verdict.SKIPPED
                ]
                if found:
                    kernels = tuple(kernel for kernel, _ in found)
                    reason = str(found[0][1].outcome)
                    numbers.setdefault((kernels, reason), []).append(place[0])
        for (kernels, reason), steps in numbers.items():
            yield SkippedSteps(lab, tuple(steps), kernels, reason)


def find_stops(matrix: Matrix) -> Sequence[Stop]:
    """Why labs did not come to their end, each reason once for all kernels that share it."""
    labs: dict[tuple[str, str, str], list[str]] = {}
    for lab in matrix.labs:
        for result in matrix.at(lab):
            if result.error:
                labs.setdefault((result.kernel, result.error, result.hint), []).append(lab)
    kernels: dict[tuple[tuple[str, ...], str, str], list[str]] = {}
    for (kernel, error, hint), stopped in labs.items():
        kernels.setdefault((tuple(stopped), error, hint), []).append(kernel)
    return [Stop(key[0], tuple(names), key[1], key[2]) for key, names in kernels.items()]


# --- two runs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """What was otherwise in an earlier matrix, on some kernels; `title` is empty for a whole lab.

    Without kernels a lab or a kernel, named in `lab`, is missing.
    """

    lab: str
    number: int
    title: str
    kernels: tuple[str, ...]
    before: str
    after: str


@dataclass(frozen=True)
class Changes:
    """What is not as in an earlier matrix; what that one did not have is new and no change."""

    changes: tuple[Change, ...]
    new: tuple[str, ...]


def find_changes(before: Matrix, after: Matrix) -> Changes:
    """Compare with an earlier matrix."""
    changes = [
        Change(f"{kind} {name}", 0, "", (), "there", "missing")
        for kind, names, now in (
            ("the kernel", before.kernels, after.kernels),
            ("the lab", before.labs, after.labs),
        )
        for name in names
        if name not in now
    ]
    new = [f"the kernel {name}" for name in after.kernels if name not in before.kernels]
    new += [f"the lab {name}" for name in after.labs if name not in before.labs]
    for lab in after.labs:
        earlier = {result.kernel: result for result in before.at(lab)}
        kernels: dict[tuple[int, str, str, str], list[str]] = {}
        for result in after.at(lab):
            if result.kernel in earlier:
                for change in compare_results(earlier[result.kernel], result):
                    kernels.setdefault(change, []).append(result.kernel)
        changes += [
            Change(lab, change[0], change[1], tuple(names), change[2], change[3])
            for change, names in sorted(kernels.items(), key=lambda item: item[0][0])
        ]
    return Changes(tuple(changes), tuple(new))


def compare_results(before: Result, after: Result) -> Iterator[tuple[int, str, str, str]]:
    """What changed in a lab on a kernel: number, title, what it was and is; 0 for the whole."""
    if before.status != after.status:
        yield 0, "", WORDS[before.status], WORDS[after.status]
    earlier = {step.place: step for step in before.steps}
    later = {step.place: step for step in after.steps}
    for place in earlier | later:
        was, now = earlier.get(place), later.get(place)
        if was and now:
            if was.answer != now.answer:
                yield *place, show_step(was), show_step(now)
        elif before.is_whole and after.is_whole:
            # Where a run stopped early, its status says it.
            yield *place, show_step(was), show_step(now)


def show_step(step: Step | None) -> str:
    """A step's outcome, and where that is not as expected, this."""
    if step is None:
        return NO_STEP
    return f"{step}, not as expected" if step.verdict is Verdict.DIFFERS else str(step)
