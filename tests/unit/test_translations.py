"""Every text of every lab is there in every language, and nothing else is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest

from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import find_labs
from labs.engine.errors import EngineError, ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import Event, Finding, Measured, RunStarted, StepStarted
from labs.engine.runner import run_lab
from labs.engine.script import OK, Lab
from labs.engine.translation import LANGUAGES, Translation, read_translation
from labs.engine.trial import ENDED, ENDED_SILENT, EXCEEDED, NOT_STARTED, SIGNALLED
from labs.engine.views.exercise import COLUMNS
from labs.engine.views.question import (
    AHEAD,
    HOW_TO_CHOOSE,
    HOW_TO_COUNT,
    HOW_TO_LEAVE,
    MEANINGS,
    OK_MEANS,
)
from labs.engine.views.score import COUNTED, SAID

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "labs" / "engine"
VIEWS = ENGINE / "views"
LABS = {lab.name: lab for lab in find_labs()}
HOW = (AHEAD, HOW_TO_LEAVE, HOW_TO_CHOOSE, HOW_TO_COUNT)
PLACEHOLDER = re.compile(r"\{(\w+)[^}]*\}")

# Where a call's texts stand: positions and keywords.
TEXTS = {
    "lab": ((), ("title", "claim")),
    "step": ((0,), ("why",)),
    "exactly": ((-1,), ()),
    "between": ((-1,), ()),
    "conclude": ((1,), ()),
    "skip": ((0,), ()),
}


def texts(path: Path) -> Iterator[str]:
    """The texts of a lab's script that a reader sees."""
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        positions, keywords = TEXTS.get(name, ((), ()))
        found = [node.args[position] for position in positions]
        found += [keyword.value for keyword in node.keywords if keyword.arg in keywords]
        for value in found:
            text = constants.get(value.id, value) if isinstance(value, ast.Name) else value
            where = f"{path}:{value.lineno}"
            assert isinstance(text, ast.Constant), f"{where}: no plain text"
            assert isinstance(text.value, str), where
            yield text.value


def entries(folder: Path, language: str) -> dict[str, str]:
    """A PO file as a dictionary; each text once, none unfinished."""
    file = polib.pofile(str(folder / f"{language}.po"))
    assert not file.fuzzy_entries()
    found = [entry.msgid for entry in file]
    assert len(found) == len(set(found))
    return {entry.msgid: entry.msgstr for entry in file}


def placeholders(text: str) -> list[str]:
    return sorted(PLACEHOLDER.findall(text))


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
@pytest.mark.parametrize("name", LABS)
def test_a_lab_says_everything_in_every_language(name: str, language: str) -> None:
    folder = LABS[name].folder
    said = set(texts(folder / "lab.py"))
    translated = entries(folder, language)
    assert said - set(translated) == set()
    assert set(translated) - said == set()
    for english, other in translated.items():
        assert other, english
        assert other != english
        assert placeholders(other) == placeholders(english)


def nodes_of_views() -> Iterator[ast.AST]:
    for path in VIEWS.glob("*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


def test_what_views_say_is_theirs() -> None:
    constants = {node.value for node in nodes_of_views() if isinstance(node, ast.Constant)}
    findings = {f"The claim {finding}:" for finding in Finding}
    for english, other in entries(VIEWS, "zh").items():
        assert english in findings or english in constants, english
        assert other
        assert placeholders(other) == placeholders(english)


def test_what_views_say_is_there_in_every_language() -> None:
    """What stands in the call itself, and what the questions take from tables."""
    said = {*HOW, OK_MEANS, *MEANINGS.values(), *SAID.values(), *COUNTED.values()}
    said |= {column for column in COLUMNS if column}
    for node in nodes_of_views():
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("say", "self._say"):
            said |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    assert len(said) > 30
    assert said - set(entries(VIEWS, "zh")) == set()


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
    translated = entries(ENGINE, "zh")
    assert set(translated) == said
    for english, other in translated.items():
        assert other
        assert placeholders(other) == placeholders(english)
