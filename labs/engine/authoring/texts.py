"""The texts of a script that a reader sees, and whether each is there in another language."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import polib

from labs.engine.authoring.problem import Problem, at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PLACEHOLDER = re.compile(r"\{(\w+)[^}]*\}")

# What a call's texts are: names of keywords, and for each the position that it may have instead.
TEXTS: Mapping[str, Mapping[str, int | None]] = {
    "lab": {"title": None, "claim": None},
    "challenge": {"title": None, "hints": None, "advice": None},
    "step": {"title": 0, "why": None},
    "exactly": {"what": 1},
    "between": {"what": 2},
    "conclude": {"fact": 1},
    "skip": {"reason": 0},
}


class NoText(Exception):
    """A text that is none: put together while the script runs, it could not be translated."""

    def __init__(self, line: int) -> None:
        super().__init__("no plain text: it could not be translated")
        self.line = line


def find_texts(script: Path) -> Iterator[str]:
    """The texts of a script; raises NoText."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for value in find_values(node):
                yield from read_texts(value, constants)


def find_values(call: ast.Call) -> Iterator[ast.expr]:
    """What stands in a call where a text has to be."""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    for name, position in TEXTS.get(name_of(call), {}).items():
        if name in keywords:
            yield keywords[name]
        elif position is not None and position < len(call.args):
            yield call.args[position]


def name_of(call: ast.Call) -> str:
    """The name of what is called, without what it belongs to."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return str(getattr(call.func, "id", ""))


def read_texts(value: ast.expr, constants: Mapping[str, ast.expr]) -> Iterator[str]:
    """A text, several, or those of a mapping's values; raises NoText."""
    match constants.get(value.id, value) if isinstance(value, ast.Name) else value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Dict(values=parts):
            for part in parts:
                yield from read_texts(part, constants)
        case _:
            raise NoText(value.lineno)


def find_faults(script: Path, language: str) -> list[Problem]:
    """What is wrong with the translation of a script's texts."""
    try:
        said = set(find_texts(script))
    except NoText as error:
        return [at(script, str(error), error.line)]
    path = script.with_name(f"{language}.po")
    if not path.exists():
        return [at(path, "missing")]
    return [*find_faults_of_file(path, said)]


def find_faults_of_file(path: Path, said: set[str]) -> Iterator[Problem]:
    """What is wrong with a PO file that is to have these texts and no others."""
    try:
        file = polib.pofile(str(path), encoding="utf-8")
    except (OSError, ValueError) as error:
        yield at(path, f"cannot be read: {error}")
        return
    done = set()
    for entry in file:
        english, other, line = entry.msgid, entry.msgstr, entry.linenum or 0
        if english in done:
            yield at(path, f"there twice: {english!r}", line)
        elif english not in said:
            yield at(path, f"left over: {english!r}", line)
        elif entry.fuzzy:
            yield at(path, f"unfinished: {english!r}", line)
        elif not other or other == english:
            yield at(path, f"not translated: {english!r}", line)
        elif placeholders(other) != placeholders(english):
            yield at(path, f"other placeholders: {english!r}", line)
        done.add(english)
    for text in sorted(said - done):
        yield at(path, f"missing: {text!r}")


def placeholders(text: str) -> list[str]:
    """The names that stand for values."""
    return sorted(PLACEHOLDER.findall(text))
