"""The gallery as a page of Markdown: each lab with its claim, its picture and what came of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.pictures.words import describe
from labs.engine.translation import ENGLISH, read_translation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.script import Lab
    from labs.engine.site.camera import Shot

WORDS = Path(__file__).parent  # its zh.po has what is said here
MARKUP = re.compile(r"([\\\[\]<>*])")


class Gallery:
    """Pages of Markdown, in one language, of shots of labs in their order."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._say = read_translation(WORDS, language).text

    def write(self, shots: Sequence[tuple[Lab, Shot]]) -> str:
        """The whole page."""
        kernel = shots[0][1].run.kernel.partition("-")[0]
        lines = [
            f"# {self._say('The gallery')}",
            self._say(
                "Every lab in the order of the course: what is said, what a kernel answered, and a "
                "picture of one step."
            ),
            self._say(
                "All of it comes from the labs, as they ran on Linux {kernel}; "
                "`invoke docs.pictures` runs them and makes this page and its pictures anew.",
                {"kernel": kernel},
            ),
            *(line for lab, shot in shots for line in self._list_lines(lab, shot)),
        ]
        return "\n\n".join(lines) + "\n"

    def _list_lines(self, lab: Lab, shot: Shot) -> Iterator[str]:
        of_lab = read_translation(lab.folder, self._language)
        yield f"## {lab.name}"
        yield f"**{escape(of_lab.text(lab.title))}**"
        if lab.claim:
            yield f"> {escape(of_lab.text(lab.claim))}"
        if shot.conclusion and self._language == ENGLISH:
            finding = str(shot.conclusion.finding).capitalize()
            yield f"**{finding}:** {escape(shot.conclusion.fact)}"
        yield f"![{escape(describe(shot.picture, self._language))}](pictures/{lab.name}.svg)"
        step = {"number": shot.step.number, "title": escape(of_lab.text(shot.step.title))}
        brief = f"../labs/{lab.name}/brief.{self._language}.md"
        yield " ".join(
            [
                self._say("Step {number}: {title}.", step),
                self._say("[The brief]({brief}) says more.", {"brief": brief}),
            ]
        )
        yield f"```sh\ninvoke lab.{lab.name}{self._option}\n```"

    @property
    def _option(self) -> str:
        return "" if self._language == ENGLISH else f" --lang {self._language}"


def escape(text: str) -> str:
    """A text in one line, with no sign in it that Markdown takes for its own but for code."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if n % 2 else MARKUP.sub(r"\\\1", part) for n, part in enumerate(parts))
