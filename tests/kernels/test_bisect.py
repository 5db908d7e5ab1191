"""git bisect finds the commit from which on a lab's outcome differs, by exit status alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from labs.engine.kernels.catalogue import find_kernel
from tests.support import copy_tree, environment, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.kernels, pytest.mark.alike]

# A regression that was real: between 5.10 and 6.1 the IPv4-mapped wildcard address ceased to stand
# in the way of the addresses that it covers.
LAB = """
import socket

from labs.engine.script import EADDRINUSE, OK, Run, lab


@lab("mapped", title="The IPv4-mapped wildcard address takes the port on each IPv4 address")
def mapped(run: Run) -> None:
    port = run.port(8080)
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice binds ::ffff:0.0.0.0", expect=OK, why="The port is free."):
        alice.socket(socket.AF_INET6).bind(("::ffff:0.0.0.0", port))
    with run.step(
        "Alice binds ::ffff:127.0.0.1", expect=EADDRINUSE.by("bind"), why="It is covered."
    ):
        alice.socket(socket.AF_INET6).bind(("::ffff:127.0.0.1", port))
"""
GOOD, BAD = "5.10", "6.1"
# What is at ./linux in each commit: a kernel, one that does not boot, or nothing.
SERIES = (GOOD, GOOD, GOOD, GOOD, "", GOOD, BAD, "broken", BAD, BAD)
FIRST_BAD = 6
TIMEOUT = 120.0


def git(folder: Path, *arguments: str) -> str:
    """What git prints."""
    options = ("-c", "user.name=bindlab", "-c", "user.email=bindlab@localhost")
    done = subprocess.run(
        ["git", *options, *arguments],
        cwd=folder,
        env=environment(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def put_kernel(folder: Path, what: str) -> None:
    """Have what a build would have left: links, as a kernel takes 12 MB."""
    for name in ("linux", "modules"):
        (folder / name).unlink(missing_ok=True)
    if what == "broken":
        content = bytearray(find_kernel(GOOD).image.read_bytes())
        content[4096:1_000_000] = bytes(1_000_000 - 4096)
        (folder / "linux").write_bytes(content)
        (folder / "linux").chmod(0o755)
    elif what:
        kernel = find_kernel(what)
        assert kernel.modules
        (folder / "linux").symlink_to(kernel.image)
        (folder / "modules").symlink_to(kernel.modules)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that has the lab."""
    folder = tmp_path / "tree"
    folder.mkdir()
    copy_tree(folder)
    lab = folder / "labs" / "mapped"
    lab.mkdir()
    (lab / "__init__.py").touch()
    (lab / "lab.py").write_text(LAB)
    return folder


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A repository with one commit for each of SERIES."""
    folder = tmp_path / "series"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for number, what in enumerate(SERIES):
        put_kernel(folder, what)
        (folder / "number").write_text(f"{number}\n")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", f"commit {number}")
    return folder


def test_bisect_finds_the_commit_by_exit_status_alone(tree: Path, series: Path) -> None:
    git(series, "bisect", "start", "HEAD", f"HEAD~{len(SERIES) - 1}")
    invoke = (sys.executable, "-m", "invoke", "--search-root", str(tree))
    output = git(series, "bisect", "run", *invoke, "lab.mapped", "--kernel", "./linux")
    commit = git(series, "log", "--all", "--format=%H", f"--grep=^commit {FIRST_BAD}$").strip()
    assert f"{commit} is the first bad commit" in output
    log = git(series, "bisect", "log").splitlines()
    skipped = {line.rpartition(" ")[2] for line in log if line.startswith("# skip: ")}
    assert skipped == {str(number) for number, what in enumerate(SERIES) if what in ("", "broken")}


@pytest.mark.parametrize(("what", "status"), [(GOOD, 0), (BAD, 3), ("", 125), ("broken", 125)])
def test_each_end_has_its_status(what: str, status: int, tree: Path, tmp_path: Path) -> None:
    put_kernel(tmp_path, what)
    done = run("lab.mapped", "--kernel", f"{tmp_path}/linux", folder=tree)
    assert done.status == status, done.output + done.errors
