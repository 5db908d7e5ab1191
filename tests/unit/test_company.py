"""Who has to be alone is, and does not wait for ever."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.company import in_company

SOON, A_MOMENT = 10.0, 0.1  # seconds


class Company:
    """A room of a test's own, and threads that go in there until they are told to leave."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.enter = partial(in_company, door=folder / "door", room=folder / "room")
        self._pool = pool
        for name in ("door", "room"):
            (folder / name).touch()

    @contextmanager
    def coming(self, *, alone: bool) -> Iterator["Future[None]"]:
        """Someone who comes in, as soon as it can be; who has come leaves with the block."""
        stack = ExitStack()
        entered = self._pool.submit(lambda: stack.enter_context(self.enter(alone=alone)))
        try:
            yield entered
        finally:
            entered.result(SOON)
            stack.close()


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    with ThreadPoolExecutor(4) as pool:
        yield Company(tmp_path, pool)


def is_in(someone: "Future[None]", seconds: float) -> bool:
    try:
        someone.result(seconds)
    except TimeoutError:
        return False
    return True


def test_others_are_in_there_at_once(company: Company) -> None:
    with company.coming(alone=False) as first, company.coming(alone=False) as second:
        assert is_in(first, SOON)
        assert is_in(second, SOON)


def test_nobody_comes_in_to_who_is_alone(company: Company) -> None:
    with ExitStack() as later:
        with company.coming(alone=True) as alone:
            assert is_in(alone, SOON)
            other = later.enter_context(company.coming(alone=False))
            assert not is_in(other, A_MOMENT)
        assert is_in(other, SOON)


def test_who_is_to_be_alone_waits_and_keeps_the_door(company: Company) -> None:
    with ExitStack() as last, ExitStack() as later:
        with company.coming(alone=False) as first:
            assert is_in(first, SOON)
            alone = later.enter_context(company.coming(alone=True))
            assert not is_in(alone, A_MOMENT)
            other = last.enter_context(company.coming(alone=False))
            assert not is_in(other, A_MOMENT)
        assert is_in(alone, SOON)
        assert not is_in(other, A_MOMENT)
        later.close()
        assert is_in(other, SOON)
