"""`invoke port.why`: who is on a port of this machine, and what the rules say to a bind() there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, standard_output
from labs.engine.port.advice import advise
from labs.engine.port.answer import Answer
from labs.engine.port.machine import see
from labs.engine.port.question import read_question
from labs.engine.port.ruling import judge
from labs.engine.port.unseen import list_unseen
from labs.engine.translation import check_language
from labs.engine.views.json import STANDARD_OUTPUT, open_document

if TYPE_CHECKING:
    from labs.engine.errors import ExitStatus
    from labs.engine.port.question import Question, Wish


def explain_port(wish: Wish, json: str | None, language: str) -> ExitStatus:
    """Look, ask the model, and say what came of it; raises UsageError and CannotRun."""
    check_language(language)
    if not os.path.exists("/proc/self/status"):
        raise CannotRun("Nothing can be seen without /proc.", "mount -t proc proc /proc")
    question = read_question(wish)
    with open_document("An answer", json) as write:
        answer = find_answer(question)
        if write:
            write(answer)
        if json != STANDARD_OUTPUT:
            from labs.engine.views.port import PortView

            PortView(standard_output(), language).show(answer)
    return answer.ruling.verdict.status


def find_answer(question: Question) -> Answer:
    """The answer to a question; raises UsageError and CannotRun."""
    sight = see(question)
    ruling = judge(question, sight)
    unseen = list_unseen(sight, ruling, is_root=os.geteuid() == 0)
    return Answer(sight, ruling, advise(ruling, sight), unseen)
