"""README, docs and briefs: links lead somewhere, pictures have words, nothing is missing."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from labs.engine.catalogue import LABS, find_labs, list_labs
from labs.engine.rehearsal import rehearse_steps
from labs.engine.site.scenes import SCENES
from tests.support import ROOT

PAGES = sorted(
    [
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "decisions").glob("*.md"),
        *LABS.glob("*/brief.*.md"),
    ]
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCED = re.compile(r"^ *(```|~~~).*?^ *\1$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]\\]|\\.)*)\]\(([^()\s]*)\)", re.DOTALL)
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def read_prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return FENCED.sub("", page.read_text())


def links_of(text: str) -> Iterator[tuple[bool, str, str]]:
    """Whether it is a picture, the words and the target of each link in a text."""
    for mark, words, target in LINK.findall(text):
        yield bool(mark), words, target


def anchors_of(text: str) -> set[str]:
    """The anchors of a text's headings, as pages that show Markdown make them."""
    found = set()
    for heading in HEADING.findall(text):
        plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading.replace("`", ""))
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return found


def test_there_is_something_to_check() -> None:
    assert {"README.md", "docs/gallery.md", "labs/euid/brief.zh.md"} <= set(NAMES)
    assert anchors_of("## On macOS and `Windows`, 9.0!") == {"on-macos-and-windows-90"}
    assert [*links_of("![a [b](c)")] == [(False, "b", "c")]


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for _, words, target in links_of(CODE.sub("code", read_prose(page))):
        if target.startswith("https://"):
            continue
        file, _, anchor = unquote(target).partition("#")
        path = (page.parent / file) if file else page
        assert path.is_file(), f"[{words}]({target})"
        assert path.resolve().is_relative_to(ROOT), f"[{words}]({target}) leads out of the clone"
        assert not anchor or anchor in anchors_of(read_prose(path)), f"[{words}]({target})"


def test_every_picture_has_words_for_who_cannot_see_it() -> None:
    pictures = 0
    for page in PAGES:
        for is_picture, words, target in links_of(read_prose(page)):
            if is_picture:
                pictures += 1
                assert len(words.split()) > 3 or len(words) > 20, f"{page}: {target}"
    assert pictures > 2 * len(SCENES)


@pytest.mark.parametrize("name", ["README.md", "docs/gallery.md", "docs/gallery.zh.md"])
def test_every_lab_is_named_in_the_order_of_the_course(name: str) -> None:
    language = "zh" if name.endswith(".zh.md") else "en"
    briefs = re.findall(rf"labs/(\w+)/brief\.{language}\.md", read_prose(ROOT / name))
    assert briefs == list_labs(LABS)


@pytest.mark.parametrize("name", ["docs/gallery.md", "docs/gallery.zh.md"])
def test_the_gallery_has_the_picture_and_the_command_of_every_lab(name: str) -> None:
    text = (ROOT / name).read_text()
    assert re.findall(r"\]\(pictures/(\w+)\.svg\)", text) == list_labs(LABS)
    assert re.findall(r"^invoke lab\.(\w+)", text, re.MULTILINE) == list_labs(LABS)
    kept = {path.stem for path in (ROOT / "docs" / "pictures").iterdir()}
    assert kept == set(list_labs(LABS))


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    targets = [target for _, _, target in links_of((folder / "README.md").read_text())]
    assert targets == sorted(path.name for path in folder.glob("0*.md"))


def test_every_lab_has_a_scene() -> None:
    assert list(SCENES) == list_labs(LABS)
    for lab in find_labs():
        steps = {step.number for step in rehearse_steps(lab, None, "en")}
        assert SCENES[lab.name] in steps, lab.name
