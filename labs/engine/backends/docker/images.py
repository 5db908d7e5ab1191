"""The images of the docker backend: their names, what goes into them, and whether they fit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.backends.docker.client import find_image
from labs.engine.errors import CannotRun, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from labs.engine.backends.docker.client import APIClient

ROOT = Path(__file__).parents[4]

DEBIAN = "debian:bookworm-slim"  # what the others are made from
BASE = "bindlab/base"
WORKBENCH = "bindlab/workbench"

IMAGE_LABEL = "bindlab.image"
AGENT_LABEL = "bindlab.agent"
LABS_LABEL = "bindlab.labs"

# What runs in a container of a lab, under the same names as here.
AGENT_FILES = (
    "labs/__init__.py",
    "labs/engine/__init__.py",
    "labs/engine/agent.py",
    "labs/engine/warm_parent.py",
    "labs/engine/spawned.py",
    "labs/engine/system.py",
    "labs/engine/worker.py",
    "labs/engine/backends/__init__.py",
    "labs/engine/backends/docker/__init__.py",
    "labs/engine/backends/docker/relay.py",
)
WORKBENCH_FILES = ("LICENSE", "README.md", "pyproject.toml", "tasks.py", "docs", "labs")


@dataclass(frozen=True)
class Recipe:
    """How an image is made: by images/FOLDER/Dockerfile in `root`, from the files it copies.

    `base` is the image that it begins with, where that is one of ours.
    """

    folder: str
    tag: str
    sources: tuple[str, ...] = ()
    takes_wheels: bool = False
    root: Path = ROOT
    base: str = ""

    @property
    def dockerfile(self) -> str:
        """Its Dockerfile's path in the project."""
        return f"images/{self.folder}/Dockerfile"


# Real servers, each in an image of its own that can be a process of a lab.
SERVERS = {name: f"bindlab/{name}" for name in ("nginx", "haproxy", "gunicorn")}

RECIPES = (
    Recipe("base", BASE, AGENT_FILES),
    *(Recipe(folder, tag, base=BASE) for folder, tag in SERVERS.items()),
    Recipe("workbench", WORKBENCH, WORKBENCH_FILES, takes_wheels=True),
)


def find_base(client: APIClient) -> str:
    """The id of the image that hosts and processes are made of; CannotRun where none fits."""
    return find_fitting(client, BASE)


def find_for(client: APIClient, program: str) -> str:
    """The id of the image that has this program; Unsupported, or CannotRun where none fits."""
    if program not in SERVERS:
        raise Unsupported(f"There is no image with {program}.")
    return find_fitting(client, SERVERS[program])


def find_fitting(client: APIClient, tag: str) -> str:
    """The id of an image that has this version's agent; CannotRun where there is none."""
    image = find_image(client, tag)
    if image is None:
        raise CannotRun(f"There is no image {tag} on this Docker engine.", "invoke image.build")
    if image.labels.get(AGENT_LABEL) != agent_digest():
        raise CannotRun(
            f"The image {tag} was built from another version of bindlab.", "invoke image.build"
        )
    return image.identity


def find_workbench(client: APIClient) -> str:
    """The id of the image that has all labs; CannotRun where there is none of this version."""
    image = find_image(client, WORKBENCH)
    if image is None:
        raise CannotRun(
            f"There is no image {WORKBENCH} on this Docker engine.", "invoke image.build"
        )
    # One that Compose has built does not say from which labs: it is taken at its word.
    if image.labels.get(LABS_LABEL, "none") not in ("", labs_digest()):
        raise CannotRun(
            f"The image {WORKBENCH} was built from other labs than these.", "invoke image.build"
        )
    return image.identity


def labs_digest(root: Path = ROOT) -> str:
    """What tells one version of the labs, and of what runs them, from another."""
    files = sorted(path.relative_to(root).as_posix() for path in root.glob("labs/**/*.py"))
    return agent_digest(root, files)


def agent_digest(root: Path = ROOT, files: Iterable[str] = AGENT_FILES) -> str:
    """What tells one version of the agent from another: SHA-256 over its files."""
    digest = hashlib.sha256()
    for file in files:
        content = (root / file).read_bytes()
        digest.update(f"{file}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
