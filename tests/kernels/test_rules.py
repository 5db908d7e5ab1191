"""The rules against a kernel that has others, inside a guest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labs.engine.kernels.catalogue import find_kernel
from labs.engine.verification.table import make_table
from labs.engine.verification.verify import Measured, measure_inside
from tests.mutants import survivors
from tests.support import ROOT

# It recalls SO_REUSEADDR, and does not see a mapped wildcard: what later ones do not.
KERNEL = "6.1"


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure_inside(find_kernel(KERNEL))


def test_the_table_catches_each_rule_that_is_wrong(measured: Measured) -> None:
    assert survivors(measured.release, measured.answered) == []


def test_a_guest_agrees_and_a_kernel_that_is_not_there_is_no_pass(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    nowhere = str(tmp_path / "vmlinux")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "invoke", "rules.verify"),
            *("--kernel", f"{KERNEL},{nowhere}", "--json", str(file)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 125, done.stdout + done.stderr
    count = len(make_table())
    assert f"{KERNEL} ({KERNEL}." in done.stdout
    assert f"{count:,} of {count:,} cells agree" in done.stdout
    document = json.loads(file.read_text())
    guest, missing = document["kernels"]
    assert (document["status"], guest["status"], missing["status"]) == (125, 0, 125)
    assert (guest["cells"], guest["mismatches"]) == (count, [])
    assert guest["compared"] > count
    assert missing["problem"] and not missing["cells"]
