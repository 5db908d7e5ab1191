"""The parts of the playground that need no namespaces."""

import socket
from pathlib import Path

import pytest

from labs.engine.catalogue import find_labs
from labs.engine.errors import EngineError, UsageError
from labs.engine.play.folder import open_folder
from labs.engine.play.ground import Ground, plan_ground
from labs.engine.play.transcript import Entry, read_transcript
from labs.engine.reading import reader
from labs.engine.record import to_json
from labs.engine.script import Lab
from labs.engine.system import ALL_CAPABILITIES

BRIEF = """\
# A brief

```sh
alice@server$ nothing of it
```

```play
alice@server$ server &
bind(3, ...) = 0
root@client# client server

answered 1
```
"""


def test_a_transcript_has_commands_and_what_is_to_come() -> None:
    first, second = read_transcript(BRIEF)
    assert first == Entry("alice", "server", "server &", ("bind(3, ...) = 0",), 8)
    assert first.patterns() == (r"bind\(3,\ [^\n]*\)\ =\ 0",)
    assert (second.user, second.host, second.expected) == ("root", "client", ("answered 1",))


@pytest.mark.parametrize("text", ["```play\nls\n```\n", "```play\nalice@server$ ls\n"])
def test_a_block_that_is_none_says_its_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line [12]: "):
        read_transcript(text)


def test_without_a_lab_there_are_two_hosts_and_three_users() -> None:
    ground = plan_ground(None, None).ground({"server": 1, "client": 2})
    assert [host.name for host in ground.hosts] == ["server", "client"]
    assert [user.name for user in ground.users] == ["alice", "bob", "root"]
    assert ground.port == 8080
    assert ground.user("root").capabilities == ALL_CAPABILITIES
    assert ground.user("").name == "alice"
    with pytest.raises(UsageError, match="alice, bob, root"):
        ground.user("carol")
    assert reader(Ground)(to_json(ground)) == ground


@pytest.mark.parametrize("lab", find_labs(), ids=lambda lab: str(lab.name))
def test_every_lab_has_a_ground(lab: Lab) -> None:
    plan = plan_ground(lab, 5)
    ground = plan.ground({host.name: 1 for host in plan.hosts})
    assert ground.hosts
    assert {"alice", "bob", "root"} <= {user.name for user in ground.users}
    assert all(host.publication is None for host in plan.hosts)


def test_a_folder_is_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with open_folder() as folder, folder.listen("play-1"), folder.locked():
        assert (tmp_path / "bindlab").stat().st_mode & 0o777 == 0o700
        (found,) = folder.connect()
        found.close()
    (tmp_path / "bindlab").chmod(0o770)
    with pytest.raises(EngineError, match="not yours alone"), open_folder():
        pass


def test_a_stale_socket_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with open_folder() as folder:
        folder.listen("play-1").close()
        assert (tmp_path / "bindlab" / "play-1").is_socket()
        assert folder.connect() == []
        assert not (tmp_path / "bindlab" / "play-1").exists()


def test_a_folder_is_made_where_there_is_no_runtime_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_folder():
        pass
    (made,) = tmp_path.iterdir()
    assert made.name.startswith("bindlab-")
    assert made.stat().st_mode & 0o777 == 0o700


def test_only_one_has_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with open_folder() as one, open_folder() as other:
        with one.locked(), other.locked_at_once() as is_mine:
            assert not is_mine
        with other.locked_at_once() as is_mine:
            assert is_mine


def test_long_folder_names_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with open_folder() as folder, folder.listen("play-1") as listener:
        assert listener.family is socket.AF_UNIX
        (found,) = folder.connect()
        found.close()
