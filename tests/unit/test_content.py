"""What lab.check finds in a lab: nothing in a complete one, and each thing that is wrong."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labs.engine.authoring.check import (
    SEEDS,
    CaseProof,
    CheckOptions,
    Found,
    check_labs,
    with_proofs,
)
from labs.engine.authoring.content import read_contents
from labs.engine.authoring.problem import Problem
from labs.engine.authoring.proof import Case, Verdict, list_cases
from labs.engine.authoring.requirements import find_problems
from labs.engine.authoring.result import Result
from labs.engine.authoring.skeleton import make_challenge, make_lab
from labs.engine.catalogue import find_challenges
from labs.engine.errors import BindlabError, EngineError, ExitStatus, UsageError
from tests.authors import finish

LAB, CHALLENGE = "harbour", "moor"
HERE = f"challenge/{CHALLENGE}"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one lab in it that has all it has to have."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / f"shelf_{tmp_path.name}"
    write_lab(folder, LAB, CHALLENGE)
    return folder


def write_lab(folder: Path, name: str, challenge: str) -> None:
    """The skeleton of a lab as if its author had written what is to do."""
    make_lab(folder / name, challenge)
    make_challenge(folder / name / "challenge" / challenge)
    finish(folder / name)


def problems_of(shelf: Path) -> list[tuple[str, str]]:
    """Where below the lab something is wrong, and what."""
    (content, *_) = read_contents(shelf, shelf.name)
    start = f"{shelf / LAB}/"
    return [(problem.where.removeprefix(start), problem.what) for problem in find_problems(content)]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_complete_lab_has_no_problem(shelf: Path) -> None:
    assert problems_of(shelf) == []


def test_a_skeleton_says_what_is_to_do_and_lacks_nothing_else(shelf: Path) -> None:
    make_lab(shelf / "anchor", "weigh")
    make_challenge(shelf / "anchor" / "challenge" / "weigh")
    content = read_contents(shelf, shelf.name)[0]
    problems = find_problems(content)
    assert content.name == "anchor"
    assert {problem.what.partition(",")[0] for problem in problems} == {"still says TODO"}
    named = {problem.where for problem in problems}
    written = {str(path) for path in content.folder.rglob("*.*") if path.name != "__init__.py"}
    assert named == written


Break = Callable[[Path], object]


def removed(name: str) -> Break:
    return lambda lab: (lab / name).unlink()


def written(name: str, text: str) -> Break:
    return lambda lab: (lab / name).write_text(text)


def replaced(name: str, old: str, new: str) -> Break:
    return lambda lab: replace(lab / name, old, new)


def copied(name: str, other: str) -> Break:
    return lambda lab: (lab / other).write_bytes((lab / name).read_bytes())


NO_STEP = f'''
from labs.engine.script import Run, lab

@lab("{LAB}", title="A title")
def script(run: Run) -> None:
    """Do nothing."""
'''

CASES: dict[str, tuple[Break, str, str]] = {
    "a script with a fault": (written("lab.py", "import nowhere"), "lab.py", "cannot be loaded"),
    "a script that ends": (written("lab.py", "raise SystemExit"), "lab.py", "cannot be loaded"),
    "another name": (replaced("lab.py", f'"{LAB}"', '"other"'), "lab.py", f"named {LAB}"),
    "no step": (written("lab.py", NO_STEP), "lab.py", "no step"),
    "a plan that fails": (
        replaced("lab.py", "alice.listen", "1 / 0  # "),
        "lab.py",
        "cannot be planned .*ZeroDivisionError",
    ),
    "no brief": (removed("brief.en.md"), "brief.en.md", "missing"),
    "no Chinese brief": (removed("brief.zh.md"), "brief.zh.md", "missing"),
    "nothing to retype": (
        replaced("brief.en.md", "```play", "```text"),
        "brief.en.md",
        "has nothing to be retyped in a playground, in a block named play",
    ),
    "other commands": (
        replaced("brief.zh.md", "bob@server$ server", "bob@server$ client"),
        "brief.zh.md",
        "has other commands for the playground than the English one",
    ),
    "a block without a command": (
        replaced("brief.zh.md", "```play\n", "```play\nnothing\n"),
        "brief.zh.md",
        "cannot be retyped",
    ),
    "a challenge that no brief names": (
        replaced("brief.zh.md", "exercise.start", "exercise.begin"),
        "brief.zh.md",
        "does not name its challenge: invoke exercise.start",
    ),
    "an empty brief": (written("brief.zh.md", " \n"), "brief.zh.md", "empty"),
    "bytes that are no text": (
        lambda lab: (lab / "brief.zh.md").write_bytes(b"# \xff"),
        "brief.zh.md",
        "cannot be read",
    ),
    "a section less": (
        replaced("brief.zh.md", "## ", ""),
        "brief.zh.md",
        "6 headings, where the English page has 7",
    ),
    "a section of another level": (
        replaced("brief.zh.md", "## ", "### "),
        "brief.zh.md",
        "heading 2 is not of the level",
    ),
    "no zh.po": (removed("zh.po"), "zh.po", "missing"),
    "a text that was changed": (
        replaced("zh.po", "Bob asks", "Bob begs"),
        "zh.po:18",
        "left over: 'Bob begs for the same port'",
    ),
    "a text without its Chinese": (
        replaced("zh.po", 'msgstr "Bob 请求同一个端口"', 'msgstr ""'),
        "zh.po:18",
        "not translated",
    ),
    "another placeholder": (
        replaced("zh.po", "在 {port}", "在 {Port}"),
        "zh.po:12",
        "other placeholders",
    ),
    "a text that is put together": (
        replaced("lab.py", '"Bob asks for the same port"', '"Bob asks" + " again"'),
        "lab.py:28",
        "no plain text",
    ),
    "a zh.po that is none": (written("zh.po", "This is no PO file.\n"), "zh.po", "cannot be read"),
    "something to do": (
        replaced("lab.py", "Done: what", "TODO: what"),
        "lab.py",
        "still says TODO, in line 1$",
    ),
    "a check with a fault": (
        written(f"{HERE}/check.py", "import nowhere"),
        f"{HERE}/check.py",
        "cannot be loaded: ModuleNotFoundError",
    ),
    "a check of another name": (
        replaced(f"{HERE}/check.py", f'"{CHALLENGE}"', '"other"'),
        f"{HERE}/check.py",
        f"must have one challenge, named {CHALLENGE}",
    ),
    "no check": (removed(f"{HERE}/check.py"), f"{HERE}/check.py", "missing"),
    "no zh.po of the challenge": (removed(f"{HERE}/zh.po"), f"{HERE}/zh.po", "missing"),
    "no task": (removed(f"{HERE}/task.en.md"), f"{HERE}/task.en.md", "missing"),
    "no Chinese task": (removed(f"{HERE}/task.zh.md"), f"{HERE}/task.zh.md", "missing"),
    "an empty why": (written(f"{HERE}/why.en.md", ""), f"{HERE}/why.en.md", "empty"),
    "one hint": (
        lambda lab: rewrite(lab / HERE / "check.py", r'"Done: what the rule is\.",\n.*\n', ""),
        f"{HERE}/check.py",
        "needs at least 2 hints, each saying more, has 1",
    ),
    "hints without a comma": (
        lambda lab: rewrite(lab / HERE / "check.py", r"hints=\([^)]*\),", 'hints=("One."),'),
        f"{HERE}/check.py",
        "its hints are one text",
    ),
    "one wrong program": (
        removed(f"{HERE}/wrong/alone.py"),
        f"{HERE}/wrong",
        "needs at least 2 wrong programs, has 1",
    ),
    "a wrong program of no advice": (
        lambda lab: (lab / HERE / "wrong/alone.py").rename(lab / HERE / "wrong/lonely.py"),
        f"{HERE}/wrong/lonely.py",
        "the advice lonely, which the check has not",
    ),
    "no template": (removed(f"{HERE}/template.py"), f"{HERE}/template.py", "missing"),
    "no solution": (removed(f"{HERE}/solution.py"), f"{HERE}/solution.py", "missing"),
    "no #! line": (
        replaced(f"{HERE}/solution.py", "#!", "# "),
        f"{HERE}/solution.py:1",
        "does not begin with #!",
    ),
    "not executable": (
        lambda lab: (lab / HERE / "template.py").chmod(0o644),
        f"{HERE}/template.py",
        "not executable: chmod",
    ),
    "a template that is the solution": (
        copied(f"{HERE}/solution.py", f"{HERE}/template.py"),
        f"{HERE}/solution.py",
        "the same program as template.py",
    ),
    "a wrong program that is the template": (
        copied(f"{HERE}/template.py", f"{HERE}/wrong/local.py"),
        f"{HERE}/wrong/local.py",
        "the same program as template.py",
    ),
}


def rewrite(path: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_where_it_is(case: str, shelf: Path) -> None:
    break_it, where, what = CASES[case]
    break_it(shelf / LAB)
    problems = problems_of(shelf)
    found = [each for each in problems if each[0] == where and re.search(what, each[1])]
    assert len(found) == 1, problems
    assert all("\n" not in each[1] for each in problems)


def test_a_lab_needs_a_challenge(shelf: Path) -> None:
    make_lab(shelf / "anchor", "weigh")
    assert ("challenge", "needs at least 1 challenge, has none") in [
        (os.path.basename(problem.where), problem.what)
        for problem in find_problems(read_contents(shelf, shelf.name)[0])
    ]


def test_some_labs_need_more(shelf: Path) -> None:
    write_lab(shelf, "euid", "drop")
    (problem,) = find_problems(read_contents(shelf, shelf.name)[0])
    assert problem.what == "needs at least 3 challenges, has 1"


@pytest.mark.parametrize("name", ["new", "check", "verdicts", "all", "engine", "Harbour", "class"])
def test_some_names_cannot_be(name: str, shelf: Path) -> None:
    write_lab(shelf, name, f"use_{name}".lower())
    contents = {content.name: content for content in read_contents(shelf, shelf.name)}
    problems = [problem.what for problem in find_problems(contents[name])]
    assert any(what.startswith(f"no lab can be named {name}: ") for what in problems), problems


@pytest.mark.parametrize("twin", [CHALLENGE, LAB])
def test_no_name_is_there_twice(twin: str, shelf: Path) -> None:
    write_lab(shelf, "anchor", twin)
    problems = [
        problem
        for content in read_contents(shelf, shelf.name)
        for problem in find_problems(content)
    ]
    assert (
        Problem(
            str(shelf / "anchor" / "challenge" / twin),
            f"its name is taken by {shelf / LAB / ('lab.py' if twin == LAB else HERE)}",
        )
        in problems
    )


def test_headings_inside_of_a_fence_are_none(shelf: Path) -> None:
    with (shelf / LAB / "brief.en.md").open("a") as brief:
        brief.write("\n```sh\n# a comment\n```\n")
    assert problems_of(shelf) == []


def test_a_broken_challenge_says_its_name(shelf: Path) -> None:
    (shelf / LAB / HERE / "check.py").write_text("import nowhere")
    with pytest.raises(EngineError, match=f"The challenge {CHALLENGE} cannot be loaded: .*:1: "):
        find_challenges(shelf, shelf.name)


def quick(shelf: Path, labs: str = "") -> ExitStatus:
    return check_labs(CheckOptions(labs, quick=True), shelf, shelf.name)


def test_what_is_right_is_said_in_a_line(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quick(shelf) is ExitStatus.PASSED
    first, empty, last = capsys.readouterr().out.splitlines()
    assert (first, empty) == (f"✔  {LAB:12}  1 challenge", "")
    assert re.fullmatch(r"1 lab, 1 challenge, without proofs, in \d+\.\d s: nothing wrong", last)


def test_what_is_wrong_is_said_in_a_line_each(
    shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    write_lab(shelf, "anchor", "weigh")
    (shelf / LAB / "brief.zh.md").unlink()
    (shelf / LAB / HERE / "check.py").write_text("raise ValueError('one\\ntwo')")
    assert quick(shelf) is ExitStatus.FAILED
    lines = capsys.readouterr().out.splitlines()
    check = f"{LAB}/{HERE}/check.py"
    assert lines[:4] == [
        f"✔  {'anchor':12}  1 challenge",
        f"✘  {LAB:12}  2 problems",
        f"    {check}: cannot be loaded: ValueError at {check}:1: one two",
        f"    {LAB}/brief.zh.md: missing",
    ]
    assert lines[-1].endswith(": 2 problems in 1 lab")


def test_some_labs_are_chosen(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lab(shelf, "anchor", "weigh")
    (shelf / LAB / "brief.zh.md").unlink()
    assert quick(shelf, "anchor") is ExitStatus.PASSED
    assert quick(shelf, f"anchor, {LAB}") is ExitStatus.FAILED
    with pytest.raises(UsageError, match="There is no lab 'nowhere'; there are anchor, harbour"):
        quick(shelf, "anchor,nowhere")


@pytest.mark.parametrize(
    ("verdict", "what"),
    [
        (Verdict(ExitStatus.UNSOLVED, "alone"), ""),
        (Verdict(ExitStatus.UNSOLVED, "local"), "it got the advice local, not alone"),
        (Verdict(ExitStatus.UNSOLVED), "it got no advice, not alone"),
        (Verdict(ExitStatus.PASSED), "its check ended with status 0, not 4"),
        (
            Verdict(ExitStatus.UNSOLVED, "local", step="It listens"),
            "it got the advice local, not alone",
        ),
        (Verdict(ExitStatus.FAILED, error="It broke."), "It broke."),
        (Verdict(ExitStatus.CANNOT_RUN, obstacle="too old a kernel"), ""),
    ],
)
def test_a_proof_is_of_the_status_and_the_hint(verdict: Verdict, what: str, shelf: Path) -> None:
    (challenge,) = find_challenges(shelf, shelf.name)
    case = Case(challenge, challenge.wrong[0], ExitStatus.UNSOLVED, "alone")
    assert verdict.problem(case) == what


def test_what_proofs_show_is_said_once(shelf: Path) -> None:
    (challenge,) = find_challenges(shelf, shelf.name)
    cases = [*list_cases(challenge)]
    folder = challenge.folder
    passed = Found(((folder / "template.py", "its check ended with status 0, not 4"),))
    fault = Found(((folder / "check.py", "It broke."),))
    answers: dict[int, Found | BindlabError] = {
        0: passed,  # the template
        1: passed,
        2: Found(),  # the solution
        3: EngineError("It took long."),
        4: fault,  # the wrong ones
        5: fault,
        6: fault,
        7: Found(obstacle="too old a kernel"),
    }
    proofs = [CaseProof(LAB, case, seed) for case in cases for seed in SEEDS]
    found = [(proof, answers[number]) for number, proof in enumerate(proofs)]
    result = with_proofs(Result(LAB, 1), found)
    assert result.problems == (
        Problem(f"{folder}/template.py", "its check ended with status 0, not 4"),
        Problem(f"{folder}/solution.py", "It took long. (with seed 1)"),
        Problem(f"{folder}/check.py", "It broke."),
    )
    assert (result.proofs, result.unproved, result.obstacle) == (7, 1, "too old a kernel")
    assert result.status is ExitStatus.FAILED
    assert Result(LAB, 1, unproved=1).status is ExitStatus.CANNOT_RUN


def test_the_labs_of_the_project_have_what_they_have_to_have() -> None:
    problems = [problem for content in read_contents() for problem in find_problems(content)]
    assert problems == []
