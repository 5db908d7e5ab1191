"""Every text of every lab is there in every language, and nothing else is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from jinja2 import Environment, nodes

from labs.engine.authoring.texts import find_faults, find_faults_of_file, find_texts
from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import find_challenges, find_labs
from labs.engine.errors import EngineError, ExitStatus
from labs.engine.layout import Layout
from labs.engine.learn import pages
from labs.engine.model import Event, Finding, Measured, RunStarted, StepStarted
from labs.engine.rules.rulebook import RULES
from labs.engine.runner import run_lab
from labs.engine.script import OK, Lab
from labs.engine.translation import LANGUAGES, Translation, read_translation
from labs.engine.trial import ENDED, ENDED_SILENT, EXCEEDED, NOT_STARTED, SIGNALLED
from labs.engine.views.digest import COLUMNS as SOCKET_COLUMNS
from labs.engine.views.exercise import COLUMNS
from labs.engine.views.html import HEADINGS
from labs.engine.views.phrases import AS_IT_WAS, HAPPENED, SUMMARY
from labs.engine.views.question import (
    AHEAD,
    HOW_TO_CHOOSE,
    HOW_TO_COUNT,
    HOW_TO_LEAVE,
    MEANINGS,
    OK_MEANS,
)
from labs.engine.views.report.content import ENDLESS, MARKS, PLANNED
from labs.engine.views.score import COUNTED, SAID

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "labs" / "engine"
VIEWS = ENGINE / "views"
LABS = {lab.name: lab for lab in find_labs()}
CHALLENGES = find_challenges()
HOW = (AHEAD, HOW_TO_LEAVE, HOW_TO_CHOOSE, HOW_TO_COUNT)
# A lab's script, and the check of a challenge.
PATHS = [
    *(Path(lab.file) for lab in LABS.values()),
    *(challenge.folder / "check.py" for challenge in CHALLENGES),
]
SCRIPTS = {str(path.parent.relative_to(ROOT)): path for path in PATHS}


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_everything_in_every_language(script: str, language: str) -> None:
    assert find_faults(SCRIPTS[script], language) == []


def entries(folder: Path, language: str) -> dict[str, str]:
    """A PO file as a dictionary; nothing is wrong with it but, may be, what it says."""
    path = folder / f"{language}.po"
    found = {entry.msgid: entry.msgstr for entry in polib.pofile(str(path), encoding="utf-8")}
    assert [*find_faults_of_file(path, set(found))] == []
    return found


def nodes_of_views() -> Iterator[ast.AST]:
    for path in VIEWS.rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


def texts_of_templates() -> Iterator[str]:
    """What stands in the calls of `say` in templates."""
    for path in VIEWS.rglob("*.j2"):
        for call in Environment().parse(path.read_text()).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "say":
                where = call.args[0]
                found = [where] if isinstance(where, nodes.Const) else where.find_all(nodes.Const)
                yield from (str(text.value) for text in found if isinstance(text.value, str))


def test_what_views_say_is_theirs() -> None:
    constants = {node.value for node in nodes_of_views() if isinstance(node, ast.Constant)}
    constants |= {*texts_of_templates()}
    findings = {f"The claim {finding}:" for finding in Finding}
    for english in entries(VIEWS, "zh"):
        assert english in findings or english in constants, english


def test_what_views_say_is_there_in_every_language() -> None:
    """What stands in the call itself, and what the questions take from tables."""
    said = {*HOW, OK_MEANS, *MEANINGS.values(), *SAID.values(), *COUNTED.values()}
    said |= {column for column in COLUMNS if column}
    said |= {*SUMMARY.values(), *HAPPENED.values(), AS_IT_WAS, *texts_of_templates()}
    said |= {*SOCKET_COLUMNS, *HEADINGS["uids"]}
    said |= {mark.words for mark in (*MARKS.values(), ENDLESS, PLANNED)}
    for node in nodes_of_views():
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("say", "self._say"):
            said |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    assert len(said) > 30
    assert said - set(entries(VIEWS, "zh")) == set()


def test_what_the_course_says_is_there_in_every_language() -> None:
    said = {*pages.ALL}
    for path in (ENGINE / "learn").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_said = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("say")
            if isinstance(node, ast.Call) and is_said and node.args:
                said |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    assert len(said) > 50
    assert set(entries(ENGINE / "learn", "zh")) == said


def run_in(language: str) -> list[Event]:
    events: list[Event] = []
    status = run_lab(LABS["unique"], FakeBackend(), Layout(None), [events.append], language)
    assert status is ExitStatus.PASSED
    return events


def test_a_run_is_in_its_language() -> None:
    english, chinese = run_in("en"), run_in("zh")
    assert len(english) == len(chinese)
    for one, other in zip(english, chinese, strict=True):
        if isinstance(one, RunStarted) and isinstance(other, RunStarted):
            assert (one.language, other.language) == ("en", "zh")
            assert one.claim != other.claim
        if isinstance(one, StepStarted) and isinstance(other, StepStarted):
            assert one.title != other.title
            assert one.why != other.why


def test_values_take_the_place_of_their_names() -> None:
    say = Translation("zh", {"{count} of {all}": "{all} \u4e2d\u7684 {count}"})
    assert say.text("{count} of {all}", {"count": 2, "all": 3}) == "3 \u4e2d\u7684 2"
    assert say.text("{count} more", {"count": 2}) == "2 more"
    assert say.text("{} stays") == "{} stays"
    assert say.expectation(OK) is OK
    assert say.expectation(Measured("{count} of {all}", 1, 2)).low == 1  # type: ignore[union-attr]


def test_a_lab_without_a_translation_speaks_english(tmp_path: Path) -> None:
    assert read_translation(tmp_path, "zh").text("Hello") == "Hello"


def test_a_translation_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "zh.po").write_bytes(b"msgid \xff")
    with pytest.raises(EngineError, match=r"zh\.po"):
        read_translation(tmp_path, "zh")


def test_a_lab_knows_its_folder() -> None:
    lab: Lab = LABS["euid"]
    assert lab.folder == ROOT / "labs" / "euid"


def test_what_is_said_of_any_program_is_there_in_every_language() -> None:
    said = {*EXCEEDED.values(), *NOT_STARTED.values(), ENDED, ENDED_SILENT, SIGNALLED}
    assert [*find_faults_of_file(ENGINE / "zh.po", said)] == []


def test_each_rule_is_said_in_every_language() -> None:
    sentences = {rule.sentence for rule in RULES}
    assert [*find_faults_of_file(ENGINE / "rules" / "zh.po", sentences)] == []


def said_in(folder: Path) -> Iterator[str]:
    """The texts that modules of a folder say as they stand there."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("say", "self._say"):
                match node.args:
                    case [ast.Constant(str(text)), *_]:
                        yield text


@pytest.mark.parametrize("folder", ["learn", "pictures", "views"])
def test_what_a_folder_says_is_there_in_every_language(folder: str) -> None:
    said = set(said_in(ENGINE / folder))
    assert len(said) > 10
    assert said - {*read_translation(ENGINE / folder, "zh").texts} == set()


def test_a_text_may_stand_at_its_place_or_by_its_name(tmp_path: Path) -> None:
    script = tmp_path / "lab.py"
    script.write_text(
        'WHAT = "five"\n'
        'run.step("one", expect=exactly(1, "two"), why="three")\n'
        'run.step(expect=between(1, 2, what=WHAT), title="four", why="six", see="no")\n'
        'run.conclude(Finding.HOLDS, fact="seven")\n'
        'challenge("no", hints=("eight", "nine"), advice={"no": "ten"}, title="eleven")\n'
        'step.skip("twelve", since="no")\n'
    )
    words = "one two three four five six seven eight nine ten eleven twelve"
    assert sorted(find_texts(script)) == sorted(words.split())


@pytest.mark.parametrize("text", ['f"{x}"', '"a" + "b"', "name", "None"])
def test_a_text_that_is_put_together_is_none(text: str, tmp_path: Path) -> None:
    script = tmp_path / "lab.py"
    script.write_text(f'\nrun.step({text}, expect=OK, why="?")\n')
    (problem,) = find_faults(script, "zh")
    assert problem.where == f"{script}:2"
    assert "no plain text" in problem.what
