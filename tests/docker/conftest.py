"""What the tests on the machine's engine have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker.client import connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.backends.docker.client import APIClient


@pytest.fixture
def engine() -> Iterator[APIClient]:
    """A client of the machine's engine."""
    with connected() as client:
        yield client
