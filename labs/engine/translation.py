"""What a lab says, in the language that was asked for: from the PO file beside its script.

The English text is the key (PO files of GNU gettext), with its placeholders as they are.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from labs.engine.errors import EngineError, UsageError
from labs.engine.model import Expectation, Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import TypeAlias

    Say: TypeAlias = Callable[..., str]
    """Translates a template, and fills in its values: `Translation.text`."""

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh")


@dataclass(frozen=True)
class Translation:
    """Texts by their English; what has none stays English."""

    language: str = ENGLISH
    texts: Mapping[str, str] = field(default_factory=dict)

    def text(self, template: str, values: Mapping[str, object] | None = None) -> str:
        """A text in this language, with `values` for its placeholders, as in str.format()."""
        found = self.texts.get(template, template)
        return found.format(**values) if values else found

    def expectation(self, expected: Expectation) -> Expectation:
        """An expectation whose quantity, if it has one, is named in this language."""
        if isinstance(expected, Measured):
            return replace(expected, what=self.text(expected.what))
        return expected


@functools.cache  # asked for once a lab, by each view
def read_translation(folder: Path, language: str) -> Translation:
    """The translation of the lab in this folder; a lab without one speaks English.

    Raises EngineError for a file that cannot be read.
    """
    path = folder / f"{language}.po"
    if language == ENGLISH or not path.exists():
        return Translation(language)
    import polib

    try:
        entries = polib.pofile(str(path), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise EngineError(f"Cannot read {path}: {error}.") from error
    return Translation(language, {entry.msgid: entry.msgstr for entry in entries if entry.msgstr})


def check_language(language: str) -> None:
    """UsageError for a language that there is not, or whose letters the output cannot have."""
    if language not in LANGUAGES:
        raise UsageError(f"There is no language {language}; there are {' and '.join(LANGUAGES)}.")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if language != ENGLISH and not encoding.lower().replace("-", "").startswith("utf"):
        raise UsageError(
            f"The output is in {encoding}, which has no letters for --lang {language}.",
            "export LC_ALL=C.UTF-8",
        )
