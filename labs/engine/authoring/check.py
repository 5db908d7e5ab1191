"""`invoke lab.check`: holds the content of labs to account."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

from labs.engine.authoring.content import read_contents
from labs.engine.authoring.problem import at
from labs.engine.authoring.proof import list_cases, prove
from labs.engine.authoring.reasons import find_strays
from labs.engine.authoring.requirements import find_problems
from labs.engine.authoring.result import Result
from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.backends.namespaces.missing import without_docker
from labs.engine.catalogue import LABS
from labs.engine.errors import BindlabError, CannotRun, ExitStatus, UsageError, standard_output
from labs.engine.jobs import choose_count, work_off
from labs.engine.runner import foremost
from labs.engine.views.content import ContentView

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from labs.engine.authoring.content import Content
    from labs.engine.authoring.proof import Case

SEEDS = (None, 1)
MOST_SECONDS = 180.0  # for one proof


@dataclass(frozen=True)
class CheckOptions:
    """Which labs, with commas between, all without one; how many proofs at once, none if quick."""

    labs: str = ""
    jobs: int | None = None
    quick: bool = False


@dataclass(frozen=True)
class Found:
    """What a proof has shown: what is wrong and where; `obstacle` is why it shows nothing here."""

    problems: tuple[tuple[Path, str], ...] = ()
    obstacle: str = ""


class Proof(Protocol):
    """Something of a lab that a run shows; `subject` is what it is about."""

    @property
    def lab(self) -> str: ...  # noqa: D102
    @property
    def subject(self) -> Path: ...  # noqa: D102
    @property
    def seeds(self) -> Sequence[int | None]: ...  # noqa: D102

    def carry_out(self) -> Found:
        """Run it; raises CannotRun, and BindlabError for what stops it."""


@dataclass(frozen=True)
class CaseProof:
    """One run of a check: a program of a challenge's own, and a seed."""

    lab: str
    case: Case
    seed: int | None

    @property
    def subject(self) -> Path:
        """The program."""
        return self.case.program

    @property
    def seeds(self) -> Sequence[int | None]:
        """The one seed."""
        return (self.seed,)

    def carry_out(self) -> Found:
        """What is wrong, be it with the program or with the check that judges it."""
        verdict = prove(self.case, self.seed)
        script = self.case.challenge.folder / "check.py"
        where = script if verdict.error else self.subject
        what = verdict.problem(self.case)
        return Found(((where, what),) if what else (), verdict.obstacle)


@dataclass(frozen=True)
class RuleProof:
    """One run of a lab, which shows by which rules its steps are decided."""

    content: Content
    seeds: ClassVar[Sequence[int | None]] = SEEDS

    @property
    def lab(self) -> str:
        """The lab's name."""
        return self.content.name

    @property
    def subject(self) -> Path:
        """The lab's script."""
        return self.content.script

    def carry_out(self) -> Found:
        """What its steps say of rules, and is not so."""
        assert self.content.lab
        return Found(tuple((self.subject, what) for what in find_strays(self.content.lab)))


def check_labs(options: CheckOptions, folder: Path = LABS, package: str = "labs") -> ExitStatus:
    """Check labs and show each as it is done; raises UsageError, and CannotRun without a proof."""
    jobs = choose_count(options.jobs)
    contents = choose(read_contents(folder, package), options.labs)
    started = time.monotonic()
    proofs = [] if options.quick else [*list_proofs(contents)]
    obstacle = find_obstacle() if proofs else None
    view = ContentView(standard_output())
    results = []
    each = (
        check_unproved(contents, proofs, obstacle)
        if obstacle
        else check_each(contents, proofs, jobs, view)
    )
    with contextlib.closing(each) as checked:
        for result in checked:
            view.show_result(result)
            results.append(result)
    view.show_sum(results, time.monotonic() - started, is_quick=options.quick)
    statuses = {result.status for result in results}
    if obstacle:
        if ExitStatus.FAILED not in statuses:
            raise obstacle
        view.show_obstacle(obstacle.message, obstacle.hint)
    return foremost(statuses)


def choose(contents: Sequence[Content], text: str) -> list[Content]:
    """The labs of a list with commas between, all without one; UsageError for one unknown."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [content.name for content in contents]
    for name in names:
        if name not in known:
            raise UsageError(f"There is no lab {name!r}; there are {', '.join(known)}.")
    return [content for content in contents if content.name in names or not names]


def find_obstacle() -> CannotRun | None:
    """Why no proof can be carried out here; None where they can."""
    try:
        with open_namespaces():
            return None
    except CannotRun as error:
        return without_docker(error)


def list_proofs(contents: Sequence[Content]) -> Iterator[Proof]:
    """All proofs of labs and of their challenges; a program that is not there has none."""
    for content in contents:
        if content.lab:
            yield RuleProof(content)
        for challenge in content.challenges:
            for case in list_cases(challenge):
                for seed in SEEDS if case.program.exists() else ():
                    yield CaseProof(content.name, case, seed)


def check_each(
    contents: Sequence[Content], proofs: Sequence[Proof], jobs: int, view: ContentView
) -> Generator[Result, None, None]:
    """Check labs in their order, their proofs side by side."""
    numbered = [*enumerate(proofs)]
    left = Counter(proof.lab for proof in proofs)
    found: dict[int, Found | BindlabError] = {}  # by the number of the proof
    results: dict[str, Result] = {}
    waiting: deque[str] = deque()

    def done() -> Iterator[Result]:
        while waiting and not left[waiting[0]]:
            name = waiting.popleft()
            mine = [(proof, found[number]) for number, proof in numbered if proof.lab == name]
            yield with_proofs(results[name], mine)

    for content in contents:
        results[content.name] = check(content)
        waiting.append(content.name)
        yield from done()
    work = work_off(numbered, carry_out, at_once=jobs, seconds=MOST_SECONDS)
    with contextlib.closing(work):
        for (number, proof), answer in work:
            found[number] = answer
            left[proof.lab] -= 1
            yield from done()
            view.show_progress(waiting, left.total())


def check_unproved(
    contents: Sequence[Content], proofs: Sequence[Proof], obstacle: CannotRun
) -> Generator[Result, None, None]:
    """Check labs in their order, where no proof can be carried out."""
    left = Counter(proof.lab for proof in proofs)
    for content in contents:
        yield replace(check(content), unproved=left[content.name], obstacle=obstacle.message)


def check(content: Content) -> Result:
    """What is wrong with a lab, without its proofs."""
    return Result(content.name, len(content.challenges), problems=(*find_problems(content),))


def carry_out(numbered: tuple[int, Proof]) -> Found:
    """Do one proof; raises CannotRun."""
    _, proof = numbered
    return proof.carry_out()


def with_proofs(result: Result, found: Sequence[tuple[Proof, Found | BindlabError]]) -> Result:
    """A lab's result with those of its proofs; what is wrong whatever the seed is said once."""
    seeds: dict[tuple[Path, str], set[int | None]] = {}
    for proof, answer in found:
        for problem in problems_of(proof, answer):
            seeds.setdefault(problem, set()).update(proof.seeds)
    obstacles = [why for _, answer in found if (why := find_reason(answer))]
    problems = [
        at(where, what if len(some) == len(SEEDS) else f"{what} ({name_seeds(some)})")
        for (where, what), some in seeds.items()
    ]
    return replace(
        result,
        proofs=len(found) - len(obstacles),
        problems=(*result.problems, *problems),
        unproved=len(obstacles),
        obstacle=next(iter(obstacles), ""),
    )


def problems_of(proof: Proof, answer: Found | BindlabError) -> Sequence[tuple[Path, str]]:
    """What is wrong by a proof, and where; nothing where it could not be carried out."""
    if isinstance(answer, CannotRun):
        return ()
    return (
        [(proof.subject, answer.message)] if isinstance(answer, BindlabError) else answer.problems
    )


def find_reason(answer: Found | BindlabError) -> str:
    """Why a proof could not be carried out; empty where it was."""
    if isinstance(answer, CannotRun):
        return answer.message
    return "" if isinstance(answer, BindlabError) else answer.obstacle


def name_seeds(seeds: Iterable[int | None]) -> str:
    """With which seeds something is so."""
    return ", ".join("without a seed" if seed is None else f"with seed {seed}" for seed in seeds)
