"""What the briefs let one retype comes out as they say, in both languages the same."""

from pathlib import Path

import pytest

from labs.engine.catalogue import find_labs
from labs.engine.play.transcript import Entry, read_transcript
from tests.players import open_shells
from tests.support import ROOT, need_program, new_token

pytestmark = pytest.mark.namespaces


def read_brief(lab: str, language: str) -> tuple[Entry, ...]:
    return read_transcript((ROOT / "labs" / lab / f"brief.{language}.md").read_text())


# What a brief needs that not every machine has.
PROGRAMS = {
    "dualstack": ("ss",),
    "restart": ("ss",),
    "crash": ("ss",),
    "nginx": ("nginx", "ss"),
    "haproxy": ("haproxy", "ss"),
    "gunicorn": ("gunicorn", "curl", "ss"),
}
LABS = [lab.name for lab in find_labs() if read_brief(lab.name, "en")]


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
    for program in PROGRAMS.get(lab, ()):
        need_program(program)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TERM", "vt100")
    with open_shells(new_token(), "--lab", lab) as shells:
        for entry in read_brief(lab, "en"):
            try:
                shells.retype(entry)
            except AssertionError as error:
                where = f"labs/{lab}/brief.en.md:{entry.line}: {entry.command}"
                raise AssertionError(f"{where}\n{error}") from None
