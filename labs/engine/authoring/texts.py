"""The texts of a script that a reader sees, and whether each is there in another language."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import polib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACEHOLDER = re.compile(r"\{(\w+)[^}]*\}")

# Where a call's texts stand: positions and keywords.
TEXTS = {
    "lab": ((), ("title", "claim")),
    "challenge": ((), ("title", "hints", "advice")),
    "step": ((0,), ("why",)),
    "exactly": ((-1,), ()),
    "between": ((-1,), ()),
    "conclude": ((1,), ()),
    "skip": ((0,), ()),
}


class NoText(Exception):
    """A text that is none: put together while the script runs, it could not be translated."""


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
            positions, keywords = TEXTS.get(name_of(node), ((), ()))
            found = [node.args[position] for position in positions]
            found += [keyword.value for keyword in node.keywords if keyword.arg in keywords]
            for value in found:
                yield from read_texts(value, constants, script)


def name_of(call: ast.Call) -> str:
    """The name of what is called, without what it belongs to."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return str(getattr(call.func, "id", ""))


def read_texts(value: ast.expr, constants: dict[str, ast.expr], script: Path) -> Iterator[str]:
    """A text, several, or those of a mapping's values; raises NoText."""
    match constants.get(value.id, value) if isinstance(value, ast.Name) else value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Dict(values=parts):
            for part in parts:
                yield from read_texts(part, constants, script)
        case _:
            raise NoText(f"{script}:{value.lineno}: no plain text")


def find_faults(script: Path, language: str) -> list[str]:
    """What is wrong with the translation of a script's texts, one line each."""
    path = script.with_name(f"{language}.po")
    try:
        said = set(find_texts(script))
    except NoText as error:
        return [str(error)]
    if not path.exists():
        return [f"{path} is missing"]
    file = polib.pofile(str(path), encoding="utf-8")
    translated = {entry.msgid: entry.msgstr for entry in file}
    faults = [f"{path}: unfinished: {entry.msgid!r}" for entry in file.fuzzy_entries()]
    if len(translated) != len(file):
        faults.append(f"{path}: a text stands there twice")
    faults += [f"{path}: missing: {text!r}" for text in sorted(said - translated.keys())]
    faults += [f"{path}: left over: {text!r}" for text in sorted(translated.keys() - said)]
    for english, other in translated.items():
        if not other or other == english:
            faults.append(f"{path}: not translated: {english!r}")
        elif placeholders(other) != placeholders(english):
            faults.append(f"{path}: other placeholders: {english!r}")
    return faults


def placeholders(text: str) -> list[str]:
    """The names that stand for values."""
    return sorted(PLACEHOLDER.findall(text))
