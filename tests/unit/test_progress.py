"""The progress file: kept by name, replaced whole, never silently begun anew."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from labs.engine.errors import UsageError
from labs.engine.exercises.progress import VERSION, Entry, exercises_in, open_progress
from labs.engine.exercises.workplace import usage_errors

ENTRY = Entry("/home/mia/bindlab/drop", 7, "2026-01-02")


def changed(entry: Entry | None) -> Entry:
    assert entry
    return replace(entry, checks=entry.checks + 1)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    progress = exercises_in(tmp_path / "bindlab")
    assert progress.read() == {}
    progress.change("drop", lambda _: ENTRY)
    progress.change("share", lambda entry: replace(ENTRY, seed=None) if entry is None else entry)
    assert exercises_in(tmp_path / "bindlab").read() == {
        "drop": ENTRY,
        "share": replace(ENTRY, seed=None),
    }
    assert json.loads(progress.path.read_text())["version"] == VERSION


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    progress = exercises_in(tmp_path)
    progress.change("drop", lambda _: ENTRY)
    children = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(10):
                    progress.change("drop", changed)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert {os.waitpid(pid, 0)[1] for pid in children} == {0}
    assert progress.read()["drop"].checks == 80
    assert {path.name for path in tmp_path.iterdir()} == {"progress.json", ".lock"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON",
        "[]",
        '{"version": 2, "exercises": {}}',
        '{"version": 1}',
        '{"version": 1, "exercises": {"drop": {"seed": 7}}}',
    ],
)
def test_what_cannot_be_read_is_kept(tmp_path: Path, content: str) -> None:
    progress = exercises_in(tmp_path)
    progress.path.write_text(content)
    with pytest.raises(UsageError, match=r"progress\.json") as caught:
        progress.read()
    assert f"mv '{progress.path}'" in caught.value.hint
    with pytest.raises(UsageError):
        progress.change("drop", lambda _: ENTRY)
    assert progress.path.read_text() == content


def test_the_state_folder_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert open_progress().path == tmp_path / "bindlab" / "progress.json"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/mia")
    assert open_progress().path == Path("/home/mia/.local/state/bindlab/progress.json")
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    with pytest.raises(UsageError, match="not an absolute path"):
        open_progress()


def test_what_a_folder_does_not_let_be_done_names_it() -> None:
    refused = PermissionError(errno.EACCES, "Permission denied", "/home/tom")
    words = r"Cannot use /home/tom: Permission denied\."
    with pytest.raises(UsageError, match=words), usage_errors():
        raise refused
    with pytest.raises(BrokenPipeError), usage_errors():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
