"""What a work folder has to have, and what of it goes with the program."""

import os
from pathlib import Path

import pytest

from labs.engine.errors import UsageError
from labs.engine.submission import MOST_FILES, list_programs, read_submission, single_file


def put(path: Path, content: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def test_a_program_and_what_is_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "program.py", "#!/usr/bin/env python3\n")
    put(tmp_path / "parts" / "more.py", "x = 1\n", 0o644)
    for name in (".hidden", "parts/__pycache__/more.pyc", "program.py~"):
        put(tmp_path / name)
    os.symlink("/etc/hostname", tmp_path / "link")
    found = read_submission(tmp_path)
    assert found.program == "program.py"
    assert {file.path: file.is_executable for file in found.files} == {
        "program.py": True,
        "parts/more.py": False,
    }
    assert found.content == b"#!/usr/bin/env python3\n"


@pytest.mark.parametrize("name", ["program", "program.sh", "program.tar.py"])
def test_any_ending_will_do(tmp_path: Path, name: str) -> None:
    put(tmp_path / name)
    assert read_submission(tmp_path).program == name


def test_a_source_beside_what_was_made_of_it(tmp_path: Path) -> None:
    put(tmp_path / "program.c", "int main(void) {}\n", 0o644)
    put(tmp_path / "program")
    assert read_submission(tmp_path).program == "program"


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no program in"):
        read_submission(tmp_path)
    with pytest.raises(UsageError, match="There is no folder"):
        read_submission(tmp_path / "nowhere")


def test_too_much(tmp_path: Path) -> None:
    put(tmp_path / "program.py")
    for number in range(MOST_FILES):
        put(tmp_path / f"{number}", "")
    with pytest.raises(UsageError, match=f"more than {MOST_FILES} files"):
        read_submission(tmp_path)


def test_too_large(tmp_path: Path) -> None:
    put(tmp_path / "program.py")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(UsageError, match="16 MiB"):
        read_submission(tmp_path)


def test_a_file_alone(tmp_path: Path) -> None:
    path = put(tmp_path / "mia.py", "#!/usr/bin/env python3\n", 0o644)
    found = single_file(path)
    assert (found.program, found.files[0].is_executable) == ("program.py", True)
    with pytest.raises(UsageError, match="Cannot read"):
        single_file(tmp_path / "nobody.py")


def test_a_folder_is_no_program(tmp_path: Path) -> None:
    put(tmp_path / "program.py")
    put(tmp_path / "program.d" / "tool.sh")
    assert read_submission(tmp_path).program == "program.py"
    assert list_programs(tmp_path) == [tmp_path / "program.py"]


def test_a_file_alone_is_no_link_and_not_too_large(tmp_path: Path) -> None:
    os.symlink("/etc/hostname", tmp_path / "mia.py")
    with pytest.raises(UsageError, match="Cannot read"):
        single_file(tmp_path / "mia.py")
    with (tmp_path / "tom.py").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(UsageError, match="16 MiB"):
        single_file(tmp_path / "tom.py")
