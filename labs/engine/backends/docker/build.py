"""Builds images on an engine, from what their Dockerfiles copy, and tells how far it is."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tarfile
import tempfile
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from labs.engine.backends.docker.client import (
    FREE_SPACE,
    engine_errors,
    find_image,
    find_untagged,
    remove_untagged,
)
from labs.engine.backends.docker.images import IMAGE_LABEL, agent_digest, labs_digest
from labs.engine.errors import BindlabError, CannotRun, EngineError
from labs.engine.progress import ImageDone, ImageStarted, InstructionStarted, OutputWritten
from labs.engine.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.backends.docker.images import Recipe
    from labs.engine.progress import Progress

Answer: TypeAlias = "dict[str, str | dict[str, str]]"

STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
LAYER = re.compile(r" ---> ([0-9a-f]{12})$")
NOISE = re.compile(r" ---> |Removing intermediate container |Successfully (built|tagged) ")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LAST_LINES = 8
SHOWN = 100  # characters of an instruction in a message


@dataclass(frozen=True)
class Materials:
    """What images are made from: the image they begin with, and a folder of wheels or None."""

    base: str
    wheels: Path | None = None


def build_image(client: APIClient, recipe: Recipe, materials: Materials) -> Iterator[Progress]:
    """Build an image and give it its tag, telling of each instruction.

    EngineError where an instruction fails, CannotRun where the engine lacks something for it.
    """
    yield ImageStarted(recipe.tag)
    before = find_image(client, recipe.tag)
    build = Build(recipe, materials)
    yield from build.run(client)
    image = find_image(client, recipe.tag)
    assert image is not None
    yield ImageDone(recipe.tag, image.size)
    outdated = [before.identity] if before else []
    for identity in [*outdated, *build.find_outdated_parts(client)]:
        if identity != image.identity:
            remove_untagged(client, identity)


class Build:
    """One build on the engine, as its answers come."""

    def __init__(self, recipe: Recipe, materials: Materials) -> None:
        self._recipe = recipe
        self._materials = materials
        self._instruction = InstructionStarted(recipe.tag, 0, 0, "")
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._layers: set[str] = set()

    def run(self, client: APIClient) -> Iterator[Progress]:
        """Let the engine build; see `build_image`."""
        recipe, materials = self._recipe, self._materials
        arguments = {
            "BASE": recipe.base or materials.base,
            "VERSION": VERSION,
            "AGENT": agent_digest(),
            "LABS": labs_digest(),
        }
        if recipe.takes_wheels:
            arguments["PIP_NO_INDEX"] = "1" if materials.wheels else ""
        with (
            open_context(recipe, materials.wheels) as context,
            engine_errors(f"build {recipe.tag}"),
            # Closed, it ends the build: the engine then removes the container it is at.
            contextlib.closing(
                client.build(
                    fileobj=context,
                    custom_context=True,
                    dockerfile=recipe.dockerfile,
                    tag=recipe.tag,
                    buildargs=arguments,
                    decode=True,
                    rm=True,
                    forcerm=True,
                    timeout=None,  # an instruction may be silent for minutes
                )
            ) as answers,
        ):
            for answer in answers:
                yield from self._read(answer)

    def _read(self, answer: Answer) -> Iterator[Progress]:
        """What one answer of the engine tells."""
        match answer:
            case {"error": str(message)}:
                raise self._explain(message)
            case {"stream": str(text)} if match := STEP.match(text):
                number, count, instruction = match.groups()
                self._lines.clear()
                self._instruction = InstructionStarted(
                    self._recipe.tag, int(number), int(count), " ".join(instruction.split())
                )
                yield self._instruction
            case {"stream": str(text)}:
                yield from self._read_output(text)
            case {"status": str(status)}:
                of = answer.get("id", "")
                yield OutputWritten(self._recipe.tag, f"{of} {status}".strip())

    def _read_output(self, text: str) -> Iterator[Progress]:
        for line in COLOUR.sub("", text).replace("\r", "\n").splitlines():
            if match := LAYER.match(line):
                self._layers.add(match[1])
            if line.strip() and not NOISE.match(line):
                self._lines.append(line.rstrip())
                yield OutputWritten(self._recipe.tag, line.rstrip())

    def _explain(self, message: str) -> BindlabError:
        """The error for a build that the engine has given up."""
        current = self._instruction
        tag = self._recipe.tag
        if "no space left" in "\n".join([message, *self._lines]).lower():
            return CannotRun(f"Could not build {tag}: no space left on the device.", FREE_SPACE)
        if current.text.startswith("FROM "):
            return CannotRun(
                f"Could not get {self._materials.base} for {tag}: {message.rstrip('.')}.",
                "invoke image.build --bootstrap  makes it from Debian's packages instead.",
            )
        text = current.text if len(current.text) <= SHOWN else f"{current.text[:SHOWN]}..."
        status = re.search(r"returned a non-zero code: (\d+)", message)
        why = f"ended with status {status[1]}" if status else f"failed: {message}"
        hint = ["The last that it wrote:", *self._lines] if self._lines else []
        if "pip install" in current.text and not self._materials.wheels:
            hint.append("invoke image.build --bootstrap  gets outside what pip asks for in there.")
        return EngineError(
            f"Could not build {tag}. Instruction {current.number} of {current.count} {why}.\n"
            f"  {text}",
            "\n  ".join(hint),
        )

    def find_outdated_parts(self, client: APIClient) -> Iterator[str]:
        """The untagged first stages of earlier builds, which no build will take up again."""
        for identity in find_untagged(client, f"{IMAGE_LABEL}={self._recipe.folder}-parts"):
            if identity.removeprefix("sha256:")[:12] not in self._layers:
                yield identity


@contextlib.contextmanager
def open_context(recipe: Recipe, wheels: Path | None = None) -> Iterator[IO[bytes]]:
    """What the engine is sent: a tar of the Dockerfile and of what it copies, and no more."""
    with open_temporary_file() as file:
        try:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for source in (recipe.dockerfile, *recipe.sources):
                    archive.add(recipe.root / source, source, filter=as_in_a_fresh_clone)
                if wheels and recipe.takes_wheels:
                    archive.add(wheels, "wheels", filter=as_in_a_fresh_clone)
        except OSError as error:
            raise explain_file(f"collect what goes into {recipe.tag}", error) from error
        file.seek(0)
        yield file


@contextlib.contextmanager
def open_temporary_file() -> Iterator[IO[bytes]]:
    """A file without a name; CannotRun where there is no space for it."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(prefix="bindlab-"))
        except OSError as error:
            raise explain_file("open a temporary file", error) from error
        yield file


def explain_file(doing: str, error: OSError) -> BindlabError:
    """The error for a file of this machine that cannot be read or written."""
    message = f"Could not {doing}: {error.strerror or error}."
    if error.errno == errno.ENOSPC:
        return CannotRun(message, f"TMPDIR names another folder than {tempfile.gettempdir()}.")
    return EngineError(message)


def as_in_a_fresh_clone(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A file as root's, readable by all and of no date, so that equal files are equal layers."""
    if os.path.basename(member.name) == "__pycache__":
        return None
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member
