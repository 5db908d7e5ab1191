"""What `invoke image.build` does: the images, one after the other, on the engine at hand."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus, UsageError, standard_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.backends.docker.images import Recipe
    from labs.engine.progress import Progress


@dataclass(frozen=True)
class BuildOptions:
    """Which images to build and from what; empty: all, and from the usual mirror."""

    only: str = ""
    bootstrap: bool = False
    mirror: str = ""


def build_images(options: BuildOptions) -> ExitStatus:
    """Build the images and show how far it is; raises UsageError, CannotRun and EngineError."""
    from labs.engine.backends.docker.client import connected
    from labs.engine.backends.docker.images import DEBIAN
    from labs.engine.views.progress import open_progress_view

    recipes = choose_recipes(options)
    with connected() as client, open_progress_view(standard_output()) as show:
        for event in make_images(client, recipes, options, DEBIAN):
            show(event)
    return ExitStatus.PASSED


def choose_recipes(options: BuildOptions) -> Sequence[Recipe]:
    """The images that the options ask for; UsageError where they make no sense."""
    from labs.engine.backends.docker.images import RECIPES

    if options.mirror and not options.bootstrap:
        raise UsageError("--mirror says where --bootstrap gets its packages; it needs that.")
    recipes = [recipe for recipe in RECIPES if options.only in ("", recipe.folder)]
    if not recipes:
        *names, last = (recipe.folder for recipe in RECIPES)
        raise UsageError(
            f"There is no image {options.only}; there are {', '.join(names)} and {last}."
        )
    return recipes


def make_images(
    client: APIClient, recipes: Sequence[Recipe], options: BuildOptions, debian: str
) -> Iterator[Progress]:
    """Make the images from the image `debian`, and before that, if asked to, that one itself."""
    from labs.engine.backends.docker.bootstrap import (
        WHEELS,
        bootstrap_image,
        fetch_wheels,
        open_wheels,
    )
    from labs.engine.backends.docker.build import Materials, build_image
    from labs.engine.progress import ImagesPlanned

    with contextlib.ExitStack() as stack:
        wheels = None
        names = [recipe.tag for recipe in recipes]
        if options.bootstrap and any(recipe.takes_wheels for recipe in recipes):
            wheels = stack.enter_context(open_wheels())
            names = [WHEELS, *names]
        yield ImagesPlanned((debian, *names) if options.bootstrap else tuple(names))
        if options.bootstrap:
            yield from bootstrap_image(client, debian, options.mirror)
        if wheels:
            yield from fetch_wheels(wheels)
        for recipe in recipes:
            yield from build_image(client, recipe, Materials(debian, wheels))
