"""What a lab has to have, without running anything of it but its plan."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from labs.engine.authoring.briefs import check_by_hand, check_ways_on
from labs.engine.authoring.challenges import check_challenge
from labs.engine.authoring.names import find_fault
from labs.engine.authoring.pages import check_pages
from labs.engine.authoring.problem import Problem, at
from labs.engine.authoring.texts import find_faults
from labs.engine.backends.fake import FakeBackend
from labs.engine.catalogue import list_challenges
from labs.engine.errors import EngineError, ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import RunEnded, StepStarted
from labs.engine.runner import plan_status, run_lab
from labs.engine.translation import ENGLISH, LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from labs.engine.authoring.content import Content
    from labs.engine.model import Event

    Check: TypeAlias = Callable[[Content], Iterable[Problem]]

# Of how many challenges a lab has at least one; these are what the course is about.
LEAST = 1
MAIN = {"euid": 3, "reuseport": 3, "restart": 3}
WRITTEN = (".py", ".md", ".po")
UNFINISHED = re.compile(r"\bTODO\b")


def check_loading(content: Content) -> Iterator[Problem]:
    """Its script and its challenges can be loaded, each by a name of its own."""
    yield from content.problems
    if fault := find_fault(content.name):
        yield at(content.folder, f"no lab can be named {content.name}: {fault}")


def check_brief(content: Content) -> Iterator[Problem]:
    """Its brief is there in each language, section for section, and leads on."""
    yield from check_pages(content.folder, "brief")
    yield from check_by_hand(content.folder)
    yield from check_ways_on(content.folder)


def check_texts(content: Content) -> Iterator[Problem]:
    """All that its script and its challenges say is there in each language."""
    scripts = [content.script] if content.lab else []
    scripts += [challenge.folder / "check.py" for challenge in content.challenges]
    for script in scripts:
        for language in LANGUAGES:
            if language != ENGLISH:
                yield from find_faults(script, language)


def check_plan(content: Content) -> Iterator[Problem]:
    """It can be planned, in each language, and its plan has steps."""
    for language in LANGUAGES if content.lab else ():
        assert content.lab
        events: list[Event] = []
        try:
            run_lab(content.lab, FakeBackend(), Layout(None), [events.append], language)
        except EngineError as error:  # a translation that cannot be read
            events.append(RunEnded(error.status, error.message))
        for event in events:
            if isinstance(event, RunEnded) and plan_status(ExitStatus(event.status)):
                how = f"--dry --lang {language}"
                yield at(content.script, f"cannot be planned ({how}): {event.error}")
                return
        if not any(isinstance(event, StepStarted) for event in events):
            yield at(content.script, "its plan has no step")
            return


def check_challenges(content: Content) -> Iterator[Problem]:
    """It has challenges, and each has what belongs to it."""
    least = MAIN.get(content.name, LEAST)
    count = len(list_challenges(content.folder))
    if count < least:
        needs = f"needs at least {least} challenge{'s' * (least != 1)}"
        yield at(content.folder / "challenge", f"{needs}, has {count or 'none'}")
    for path in sorted((content.folder / "challenge").glob("*/")):
        is_one = path.name.isidentifier() and not path.name.startswith("_")
        if is_one and any(path.glob("*.*")) and not (path / "check.py").exists():
            yield at(path / "check.py", "missing")
    for challenge in content.challenges:
        yield from check_challenge(challenge)


def check_finished(content: Content) -> Iterator[Problem]:
    """Nothing in it still says TODO."""
    for path in sorted(content.folder.rglob("*")):
        if path.suffix in WRITTEN and path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found = [str(number) for number, line in enumerate(lines, 1) if UNFINISHED.search(line)]
            if found:
                where = f"line{'s' * (len(found) != 1)} {', '.join(found)}"
                yield at(path, f"still says TODO, in {where}")


CHECKS: tuple[Check, ...] = (
    check_loading,
    check_brief,
    check_texts,
    check_plan,
    check_challenges,
    check_finished,
)
"""Every requirement: what is to be required besides is one more function here."""


def find_problems(content: Content) -> list[Problem]:
    """All that is wrong with a lab's content, each once."""
    return [*dict.fromkeys(problem for check in CHECKS for problem in check(content))]
