"""What `invoke docs.build` does: the docs as a site that is read without a network."""

from __future__ import annotations

import sys
from pathlib import Path

from labs.engine.catalogue import LABS, list_labs
from labs.engine.chores import ROOT, has_module
from labs.engine.errors import CannotRun, ExitStatus, standard_output

GENERATOR = ("sphinx", "myst_parser", "furo")


def build_site(output: str) -> ExitStatus:
    """Build the site into a folder, and say where it begins; raises CannotRun and EngineError."""
    if not (ROOT / "docs").is_dir():
        raise CannotRun("The docs are not installed with the labs: their site is built in a clone.")
    missing = [name for name in GENERATOR if not has_module(name)]
    if missing:
        raise CannotRun(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.",
            f"{sys.executable} -m pip install --editable '{ROOT}[docs]'",
        )
    from labs.engine.site.generator import generate

    folder = Path(output) if output else ROOT / "build" / "site"
    generate(ROOT, folder, list_labs(LABS))
    standard_output().write(f"The site begins at {folder / 'index.html'}\n")
    return ExitStatus.PASSED
