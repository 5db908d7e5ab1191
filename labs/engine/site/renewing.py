"""What docs.pictures and docs.rules do: make the pages anew that are not written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.chores import ROOT
from labs.engine.errors import EngineError, ExitStatus, standard_output
from labs.engine.site.scenes import SCENES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.script import Lab
    from labs.engine.site.camera import Shot

COLUMNS = 72  # of a picture: so wide that its names have room, so narrow that a phone shows them
GALLERIES = {"en": "gallery.md", "zh": "gallery.zh.md"}
SHEETS = {"en": "bind.md", "zh": "bind.zh.md"}


def renew_pictures(labs: Sequence[Lab], output: str) -> ExitStatus:
    """Run the labs, and write each one's picture and the gallery of all into a folder.

    Raises CannotRun where a lab does not go its whole way here, and EngineError.
    """
    from labs.engine.site.camera import take

    strangers = [lab.name for lab in labs if lab.name not in SCENES]
    if strangers:
        raise EngineError(
            f"Nothing says which step of {', '.join(strangers)} the gallery is to show.",
            "SCENES in labs/engine/site/scenes.py has the step of each lab.",
        )
    folder = folder_of(output)
    stream = standard_output()
    shots = []
    for lab in labs:
        shot = take(lab)
        shots.append((lab, shot))
        stream.write(f"{lab.name:12}  step {shot.step.number}: {shot.step.title}\n")
    try:
        write_files(folder, shots)
    except OSError as error:
        raise EngineError(f"Cannot write to {folder}: {error.strerror}.") from error
    stream.write(f"The gallery is {folder / GALLERIES['en']}\n")
    return ExitStatus.PASSED


def renew_rules(output: str) -> ExitStatus:
    """Write the rules of bind(), as the model has them, into a folder; raises EngineError."""
    from labs.engine.site.sheet import Sheet

    folder = folder_of(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for language, name in SHEETS.items():
            (folder / name).write_text(Sheet(language).write(), encoding="utf-8")
    except OSError as error:
        raise EngineError(f"Cannot write to {folder}: {error.strerror}.") from error
    standard_output().write(f"The rules are {folder / SHEETS['en']}\n")
    return ExitStatus.PASSED


def folder_of(output: str) -> Path:
    """Where pages go: to docs where nothing else is said."""
    return Path(output) if output else ROOT / "docs"


def write_files(folder: Path, shots: Sequence[tuple[Lab, Shot]]) -> None:
    """Write the pictures and the gallery's pages; raises OSError."""
    from labs.engine.pictures.layout import draw
    from labs.engine.pictures.svg import to_file
    from labs.engine.pictures.words import describe
    from labs.engine.site.gallery import Gallery

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for lab, shot in shots:
        drawing = to_file(draw(shot.picture, COLUMNS), describe(shot.picture))
        (folder / "pictures" / f"{lab.name}.svg").write_text(drawing, encoding="utf-8")
    for language, name in GALLERIES.items():
        (folder / name).write_text(Gallery(language).write(shots), encoding="utf-8")
