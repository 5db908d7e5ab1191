"""What the markers mean: which tests can run on this machine, and in which shape."""

import functools
import os

import pytest

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import CannotRun
from labs.engine.layout import Layout
from labs.engine.model import ProcessPlan

IS_ROOT = os.geteuid() == 0
OTHER_SHAPE = "ordinary_only" if IS_ROOT else "root_only"


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the other shape: they are run by a run as the other user."""
    left_out = [item for item in items if item.get_closest_marker(OTHER_SHAPE)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that the machine cannot run; in CI, which has to be able to, it fails."""
    if item.get_closest_marker("namespaces") and (reason := find_obstacle()):
        if os.environ.get("CI"):
            pytest.fail(f"CI has to run this: {reason}", pytrace=False)
        pytest.skip(reason)
