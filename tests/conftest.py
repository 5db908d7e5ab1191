"""What the markers mean: which tests can run on this machine, and in which shape."""

import functools
import gc
import os
import subprocess
import warnings
from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import BindlabError, CannotRun
from labs.engine.layout import Layout
from labs.engine.plans import ProcessPlan
from tests.company import in_company

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from labs.engine.backends.docker.client import APIClient

# What pytest-xdist tells its workers is the width of its own terminal, and of no command's.
os.environ.pop("COLUMNS", None)

IS_ROOT = os.geteuid() == 0
OTHER_SHAPE = "ordinary_only" if IS_ROOT else "root_only"
# CI runs all as root before it runs as an ordinary user what may come out otherwise.
IS_SECOND_RUN = bool(os.environ.get("CI")) and not IS_ROOT


@functools.cache
def find_obstacle() -> str:
    """Why the namespaces backend cannot run here; empty if it can, tried once by running it."""
    try:
        with open_namespaces() as backend:
            backend.open_host(Layout(None).host("probe"))
            backend.start_process(ProcessPlan("probe", "probe", 0))
    except CannotRun as error:
        return f"{error.message} {error.hint}"
    return ""


@functools.cache
def find_engine_obstacle() -> str:
    """Why the docker backend cannot run here: no engine, or no image of this version."""
    from labs.engine.backends.docker.images import find_base

    return find_image_obstacle(find_base)


@functools.cache
def find_workbench_obstacle() -> str:
    """Why a class cannot be run here: no engine, or no workbench of this version."""
    from labs.engine.backends.docker.images import find_workbench

    return find_image_obstacle(find_workbench)


def find_image_obstacle(find: "Callable[[APIClient], str]") -> str:
    """Why an image cannot be had from the engine; empty if it can."""
    from labs.engine.backends.docker.client import connected

    obstacle = ""
    with warnings.catch_warnings():
        # The SDK leaves the socket open that it could not connect.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with connected() as client:
                find(client)
        except BindlabError as error:
            obstacle = f"{error.message} {error.hint}"
        gc.collect()
    return obstacle


@functools.cache
def find_compose_obstacle() -> str:
    """Why compose.yaml cannot be tried here: no Compose, or no workbench."""
    for command in (["compose", "version"], ["image", "inspect", "bindlab/workbench"]):
        try:
            done = subprocess.run(["docker", *command], capture_output=True, text=True, check=False)
        except OSError as error:
            return f"The docker command is missing: {error.strerror}."
        if done.returncode:
            return f"docker {' '.join(command)}: {done.stderr.strip()}"
    return ""


@functools.cache
def find_kernel_obstacle() -> str:
    """Why isolated kernels cannot be tried here: one was not fetched, or none boots."""
    from labs.engine.kernels.boot import booting
    from labs.engine.kernels.catalogue import choose_known, find_kernel

    try:
        kernels = [find_kernel(known.name) for known in choose_known("uml")]
        with booting(kernels[-1]) as guest:
            guest.wait_until_ready()
    except BindlabError as error:
        return f"{error.message} {error.hint}"
    return ""


@functools.cache
def find_qemu_obstacle() -> str:
    """Why a full kernel cannot be tried here: a program is missing, or the kernel."""
    from labs.engine.kernels.catalogue import find_kernel
    from labs.engine.kernels.qemu import check_qemu

    try:
        check_qemu()
        find_kernel("qemu:6.1")
    except CannotRun as error:
        return f"{error.message} {error.hint}"
    return ""


@functools.cache
def find_browser_obstacle() -> str:
    """Why pages cannot be looked at here: no Chromium, or none that starts."""
    from tests.browser import find_chromium, open_browser

    if not find_chromium():
        return "Chromium is not installed (sudo apt-get install chromium)."
    try:
        with open_browser():
            return ""
    except Exception as error:  # whatever keeps it from starting
        return f"Chromium does not start: {error}"


OBSTACLES = {
    "namespaces": find_obstacle,
    "docker": find_engine_obstacle,
    "workbench": find_workbench_obstacle,
    "compose": find_compose_obstacle,
    "kernels": find_kernel_obstacle,
    "qemu": find_qemu_obstacle,
    "browser": find_browser_obstacle,
}
# What CI has to be able to run. An engine does the same for every client that it lets in, so the
# run as root is enough there, and the ordinary user need not be let in.
PROMISED = frozenset(OBSTACLES) if IS_ROOT else frozenset({"namespaces", "kernels"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is run by a run as the other user: what only that one can, or has done."""
    left_out = [item for item in items if is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def is_left_out(item: pytest.Item) -> bool:
    """Whether a test is for another run."""
    if item.get_closest_marker(OTHER_SHAPE):
        return True
    is_for_both = not item.get_closest_marker("ordinary_only")
    return IS_SECOND_RUN and is_for_both and item.get_closest_marker("alike") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> "Generator[None, object, object]":
    """Where there are several workers, let a test that has to be alone be that."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with in_company(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that the machine cannot run; in CI, which has to be able to, it fails."""
    for marker, find in OBSTACLES.items():
        if item.get_closest_marker(marker) and (reason := find()):
            if os.environ.get("CI") and marker in PROMISED:
                pytest.fail(f"CI has to run this: {reason}", pytrace=False)
            pytest.skip(reason)
