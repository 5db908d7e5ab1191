"""Makes what builds elsewhere get from a registry and an index: an image of Debian, and wheels.

The image is of Debian's packages, put together by mmdebstrap; the wheels are those of bindlab's
dependencies that are Python alone, and so fit every machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.backends.docker.build import LAST_LINES, open_temporary_file
from labs.engine.backends.docker.client import engine_errors, find_image, remove_untagged
from labs.engine.backends.docker.images import IMAGE_LABEL, ROOT
from labs.engine.backends.program import ending
from labs.engine.errors import CannotRun, EngineError
from labs.engine.progress import ImageDone, ImageStarted, InstructionStarted, OutputWritten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.progress import Progress

WHEELS = "wheels"  # what making them is called
BOOTSTRAP = "bootstrap"  # what the image's label says
DEBIAN_NAME = re.compile(r"(?P<repository>[^:@]+):(?P<suite>[a-z]+)(-slim)?")
CONTAINER_PYTHON = "3.11"  # Debian 12's

# Debian's names of what the engine calls otherwise.
ARCHITECTURES = {"arm": "armhf", "386": "i386", "ppc64le": "ppc64el"}
HOOKS = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
UNUSED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
# Docker gives a container these two; the machine's own are nobody's business.
REMOVE_LEFTOVERS = 'rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1"/var/cache/debconf/*-old'


def bootstrap_image(client: APIClient, name: str, mirror: str = "") -> Iterator[Progress]:
    """Make the image `name`, as debian:bookworm-slim, from packages and import it.

    One that is there already and was not made so is left as it is. `mirror` is the address of
    Debian's packages. Raises CannotRun and EngineError.
    """
    yield ImageStarted(name)
    before = find_image(client, name)
    if before and before.labels.get(IMAGE_LABEL) != BOOTSTRAP:
        yield ImageDone(name, before.size, kept="is there already and is used as it is")
        return
    command = mmdebstrap_command(client, name, mirror)
    with open_temporary_file() as archive:
        yield InstructionStarted(name, 1, 2, "mmdebstrap")
        yield from run_program(name, command, archive)
        yield InstructionStarted(name, 2, 2, "docker import")
        archive.seek(0)
        import_image(client, name, archive)
    image = find_image(client, name)
    assert image is not None
    if before:
        remove_untagged(client, before.identity)
    yield ImageDone(name, image.size)


def mmdebstrap_command(client: APIClient, name: str, mirror: str = "") -> list[str]:
    """What writes the tar of such an image to standard output; CannotRun where it cannot be."""
    match = DEBIAN_NAME.fullmatch(name)
    if not match:
        raise CannotRun(f"{name} does not say which Debian it is.", "Name it debian:SUITE-slim.")
    if shutil.which("mmdebstrap") is None:
        raise CannotRun(
            f"mmdebstrap is missing: it makes {name} from packages.",
            "sudo apt-get install mmdebstrap",
        )
    with engine_errors("ask the engine for its architecture"):
        architecture = client.version()["Arch"]
    sources = [match["suite"], "-", mirror] if mirror else [match["suite"]]
    return [
        "mmdebstrap",
        "--variant=apt",
        "--include=usr-is-merged",  # the alternative to it brings the whole of Perl
        f"--hook-dir={HOOKS}",
        f"--customize-hook={REMOVE_LEFTOVERS}",
        "--aptopt=APT::Install-Recommends false",
        *(f"--dpkgopt=path-exclude={path}" for path in UNUSED),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--skip=output/dev",
        "--format=tar",
        f"--architectures={ARCHITECTURES.get(architecture, architecture)}",
        *sources,
    ]


def import_image(client: APIClient, name: str, archive: IO[bytes]) -> None:
    """Import a tar as an image whose label says where it comes from."""
    repository, _, tag = name.rpartition(":")
    title = "org.opencontainers.image.title"
    changes = [
        'CMD ["bash"]',
        f"LABEL {IMAGE_LABEL}={BOOTSTRAP}",
        f'LABEL {title}="{name} from packages, made by bindlab"',
    ]
    with engine_errors(f"import {name}"):
        answer = client.import_image_from_data(archive, repository, tag, changes)
    for line in answer.splitlines():
        if "error" in (said := json.loads(line)):
            raise EngineError(f"Could not import {name}: {said['error']}.")


@contextlib.contextmanager
def open_wheels() -> Iterator[Path]:
    """A folder for wheels that is gone with the block."""
    with tempfile.TemporaryDirectory(prefix="bindlab-wheels-") as folder:
        yield Path(folder)


def fetch_wheels(folder: Path) -> Iterator[Progress]:
    """Put the wheels of bindlab's dependencies into a folder; EngineError where pip fails."""
    yield ImageStarted(WHEELS)
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    # Compiled parts have to be for the container's Python, whatever this one is.
    kind = [
        "--only-binary=:all:",
        f"--platform=manylinux2014_{os.uname().machine}",
        "--implementation=cp",
        f"--abi=cp{CONTAINER_PYTHON.replace('.', '')}",
        f"--python-version={CONTAINER_PYTHON}",
    ]
    command = [sys.executable, "-m", "pip", "download", f"--dest={folder}", *kind]
    yield InstructionStarted(WHEELS, 1, 1, "pip download")
    yield from run_program(WHEELS, [*command, *dependencies])
    yield ImageDone(WHEELS, sum(file.stat().st_size for file in folder.iterdir()))


def run_program(
    name: str, command: Sequence[str], output: IO[bytes] | None = None
) -> Iterator[Progress]:
    """Run a program and tell what it writes; its standard output goes into a file, if given.

    EngineError where it fails.
    """
    lines: deque[str] = deque(maxlen=LAST_LINES)
    with started(command, output) as process:
        stream = process.stderr if output else process.stdout
        assert stream is not None
        for data in stream:
            if line := data.decode(errors="replace").strip():
                lines.append(line)
                yield OutputWritten(name, line)
        status = process.wait()
    if status:
        raise EngineError(
            f"Could not make {name}: {os.path.basename(command[0])} ended with status {status}.",
            "\n  ".join(["The last that it wrote:", *lines]),
        )


@contextlib.contextmanager
def started(command: Sequence[str], output: IO[bytes] | None) -> Iterator[subprocess.Popen[bytes]]:
    """A program that writes to a file or is read from, and ends with the block."""
    to = output or subprocess.PIPE
    errors = subprocess.PIPE if output else subprocess.STDOUT
    with ending(
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=to, stderr=errors)
    ) as process:
        yield process
