"""The rules against a kernel that has others, inside a guest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labs.engine.authoring.reasons import compare_rules
from labs.engine.catalogue import find_labs
from labs.engine.kernels.boot import booting, one_processor
from labs.engine.kernels.catalogue import find_kernel
from labs.engine.model import Event, StepEnded
from labs.engine.verification.table import make_table
from labs.engine.verification.verify import Measured, measure_inside
from tests.mutants import survivors
from tests.support import ROOT

pytestmark = [pytest.mark.kernels, pytest.mark.alike]

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


# Labs about who may have a port; those of programs and of loads have next to no such step.
ABOUT_PORTS = (
    *("unique", "fork", "reuseport", "euid", "netns", "userns", "containers", "reuseaddr"),
    *("timewait", "udp", "dualstack", "device", "passing"),
)


@pytest.mark.parametrize("name", ["5.10", "6.1", "6.12", "7.2"])
def test_steps_tell_of_the_rules_that_decide_them_on_another_kernel(name: str) -> None:
    labs = [lab for lab in find_labs() if lab.name in ABOUT_PORTS]
    assert len(labs) == len(ABOUT_PORTS)
    rules: dict[str, list[str]] = {}
    with booting(find_kernel(name), one_processor()) as guest:
        guest.wait_until_ready()
        for lab in labs:
            events: list[Event] = []
            guest.run(lab.request, None, events.append)
            assert [*compare_rules(events)] == []
            ends = (event for event in events if isinstance(event, StepEnded))
            rules[lab.name] = [end.decision.rule for end in ends if end.decision]
    assert all(rules.values())
    # What the port remembers of SO_REUSEADDR is asked until 6.8.
    remembers = name in ("5.10", "6.1")
    assert rules["reuseaddr"][0] == ("remembered-reuseaddr" if remembers else "both-reuseaddr")
