"""What the course says, in the trainee's language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.translation import read_translation

if TYPE_CHECKING:
    from labs.engine.translation import Say

WORDS = Path(__file__).parent
OF_VIEWS = WORDS.parent / "views"  # the questions and their answers are those of --predict


def speaker(language: str) -> Say:
    """What translates the course's own texts."""
    return read_translation(WORDS, language).text


def questioner(language: str) -> Say:
    """What translates what is said of predictions."""
    return read_translation(OF_VIEWS, language).text
