"""What the tests on the machine's engine have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from labs.engine.backends.docker.client import connected
from tests.docker.pauses import open_paused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.backends.docker.client import APIClient
    from tests.docker.pauses import Paused


@pytest.fixture
def engine() -> Iterator[APIClient]:
    """A client of the machine's engine."""
    with connected() as client:
        yield client


@pytest.fixture
def paused(engine: APIClient) -> Iterator[Paused]:
    """A run that pauses, of which nothing is left."""
    with open_paused(engine) as paused:
        yield paused
