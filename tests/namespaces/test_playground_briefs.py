"""What the briefs let one retype comes out as they say, in both languages the same."""

import os
import re
from pathlib import Path

import pytest

from labs.engine.catalogue import find_labs
from labs.engine.play.transcript import Entry, read_transcript
from labs.engine.script import kernel_version
from tests.players import open_shells
from tests.support import ROOT, need_program, new_token

pytestmark = pytest.mark.namespaces


def read_brief(lab: str, language: str) -> tuple[Entry, ...]:
    return read_transcript((ROOT / "labs" / lab / f"brief.{language}.md").read_text())


LABS = [lab.name for lab in find_labs() if read_brief(lab.name, "en")]


# What not every machine has: programs in the commands, and what their outcomes need.
PROGRAMS = {
    *("curl", "gunicorn", "haproxy", "nginx"),
    *("nsenter", "pgrep", "pkill", "ss", "taskset", "unshare"),
}
KERNELS = {"balance": (6, 2), "reuseaddr": (6, 8)}
TWO_PROCESSORS = {"balance"}


def need(lab: str) -> None:
    """Skip a brief that this machine cannot show; fail in CI where a program is missing."""
    words = {word for entry in read_brief(lab, "en") for word in re.findall(r"\w+", entry.command)}
    for program in sorted(words & PROGRAMS):
        need_program(program)
    if kernel_version(os.uname().release) < KERNELS.get(lab, (0, 0)):
        pytest.skip("the kernel is older than what this brief shows")
    if lab in TWO_PROCESSORS and not {0, 1} <= os.sched_getaffinity(0):
        pytest.skip("it takes the processors 0 and 1")


def test_there_is_something_to_retype() -> None:
    assert {"euid", "unique", "reuseport", "fork"} <= {*LABS}


@pytest.mark.parametrize("lab", [lab.name for lab in find_labs()])
def test_both_languages_have_the_same_commands(lab: str) -> None:
    english, chinese = (
        [(entry.user, entry.host, entry.command, entry.expected) for entry in read_brief(lab, name)]
        for name in ("en", "zh")
    )
    assert english == chinese


@pytest.mark.parametrize("lab", LABS)
def test_a_brief_can_be_retyped(lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(lab)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TERM", "vt100")
    with open_shells(new_token(), "--lab", lab) as shells:
        for entry in read_brief(lab, "en"):
            try:
                shells.retype(entry)
            except AssertionError as error:
                where = f"labs/{lab}/brief.en.md:{entry.line}: {entry.command}"
                raise AssertionError(f"{where}\n{error}") from None
