"""The matrix: labs on kernels, what differs between them, and what has changed since."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from labs.engine.record import SCHEMA
from tests.support import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.kernels, pytest.mark.namespaces]

CHOICE = ("--kernels", "host,5.10,7.2", "--labs", "euid")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a matrix of three kernels has written."""
    path = tmp_path_factory.mktemp("matrix") / "matrix.json"
    done = run("kernel.matrix", *CHOICE, "--json", str(path))
    assert done.status == 0, done.errors
    assert "1 lab on 3 kernels" in done.output
    assert done.output.count("pass") >= 3
    return path


def test_each_lab_is_recorded_on_each_kernel(measured: Path) -> None:
    text = measured.read_text()
    assert text.count('"lab": "euid"') >= 3
    for release in ('"5.10.', '"7.2.'):
        assert release in text
    assert json.loads(text)["schema"] == SCHEMA


def test_what_has_not_changed_is_a_pass(measured: Path) -> None:
    done = run("kernel.matrix", *CHOICE, "--against", str(measured))
    assert done.status == 0, done.output + done.errors


def test_an_outcome_that_has_changed_is_a_difference(measured: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    text = measured.read_text()
    changed = text.replace("EADDRINUSE", "EACCES")
    assert changed != text
    earlier.write_text(changed)
    done = run("kernel.matrix", *CHOICE, "--against", str(earlier))
    assert done.status == 3
    assert "EACCES" in done.output
    assert "EADDRINUSE" in done.output


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--kernels", "9.9"), 2),
        (("--labs", "nowhere"), 2),
        (("--jobs", "many"), 2),
        (("--against", "/dev/null"), 2),
    ],
)
def test_what_cannot_be_is_a_usage_error(arguments: tuple[str, ...], status: int) -> None:
    assert run("kernel.matrix", *arguments).status == status


def test_a_kernel_that_was_not_fetched_is_no_pass(tmp_path: Path) -> None:
    done = run("kernel.matrix", *CHOICE, XDG_CACHE_HOME=str(tmp_path))
    assert done.status == 125
    assert "invoke kernel.fetch" in done.output + done.errors
