"""Which ids are mapped: reading subuid(5) files and uid maps."""

import os
from pathlib import Path

import pytest

from labs.engine.backends.namespaces.ids import ROOT_START, find_range, own_map_covers
from labs.engine.errors import CannotRun, ExitStatus


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("alice:100000:65536\n", 100000),
        ("bob:100000:65536\nalice:200000:65536\n", 200000),
        ("alice:100000:1000\nalice:300000:131072\n", 300000),
        ("nonsense\nalice:x:y\n\nalice:100000:65536", 100000),
        (f"{os.getuid()}:400000:65536\n", 400000),
    ],
)
def test_the_first_range_that_is_large_enough(tmp_path: Path, text: str, start: int) -> None:
    path = tmp_path / "subuid"
    path.write_text(text)
    assert find_range(path, "alice") == start


@pytest.mark.parametrize("text", ["", "bob:100000:65536\n", "alice:100000:65535\n", None])
def test_no_range(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "subuid"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CannotRun) as caught:
        find_range(path, "alice")
    assert str(path) in caught.value.message
    assert "usermod --add-subuids" in caught.value.hint
    assert caught.value.status == ExitStatus.CANNOT_RUN


def test_the_hint_names_ids_that_nobody_has(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_text("bob:100000:65536\ncarol:165536:65536\n")
    with pytest.raises(CannotRun) as caught:
        find_range(path, "alice")
    assert "--add-subuids 231072-296607 " in caught.value.hint


@pytest.mark.parametrize(
    ("text", "covers"),
    [
        ("         0          0 4294967295\n", True),
        (f"0 100000 65536\n{ROOT_START} {ROOT_START} 65536\n", True),
        ("0 100000 65536\n", False),
        (f"0 0 {ROOT_START + 65535}\n", False),
        (f"0 0 {ROOT_START + 65536}\n", True),
    ],
)
def test_what_root_may_map(text: str, covers: bool) -> None:
    assert own_map_covers(text) is covers
