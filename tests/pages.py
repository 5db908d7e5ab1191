"""What holds of every page: valid HTML that needs nothing else, and that can be read aloud."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import html5lib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree import ElementTree as ET

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
# What could make a browser ask for something; within the page is where links may lead.
FOREIGN_TAGS = {"script", "link", "img", "iframe", "object", "embed", "audio", "video", "base"}
LINKING = ("src", "href", "srcset", "action", "data", "poster")
FOREIGN_STYLE = re.compile(r"url\(|@import|expression\(", re.IGNORECASE)


def read_page(text: str) -> ET.Element:
    """The tree of a page; raises html5lib's ParseError for what a browser would have to mend."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    tree: ET.Element = parser.parse(text)
    return tree


def check_page(text: str) -> ET.Element:
    """Assert all that holds of every page, and give its tree."""
    page = read_page(text)
    faults = [*find_faults(page)]
    assert not faults, faults
    return page


def find_faults(page: ET.Element) -> Iterator[str]:
    """What is wrong with a page."""
    yield from find_foreign(page)
    yield from find_lost_links(page)
    yield from find_wrong_headings(page)
    yield from find_unnamed(page)


def find_foreign(page: ET.Element) -> Iterator[str]:
    """What is not in the page itself, or does something."""
    for element in elements(page):
        tag = str(element.tag)
        if tag in FOREIGN_TAGS:
            yield f"<{tag}>"
        for name, value in element.attrib.items():
            if name.startswith("on") or FOREIGN_STYLE.search(value):
                yield f'<{tag} {name}="{value}">'
            if name in LINKING and not value.startswith("#"):
                yield f'<{tag} {name}="{value}">'
        if tag == "style" and FOREIGN_STYLE.search(element.text or ""):
            yield "a style that loads something"


def find_lost_links(page: ET.Element) -> Iterator[str]:
    """Ids that are there twice, and what refers to none."""
    ids = [element.attrib["id"] for element in elements(page) if "id" in element.attrib]
    yield from (f"id {name} twice" for name in {*ids} if ids.count(name) > 1)
    for element in elements(page):
        wanted = element.get("aria-labelledby", "").split()
        wanted += [element.get("href", "#")[1:]] if element.tag == "a" else []
        yield from (f"no #{name}" for name in wanted if name not in ids)


def find_wrong_headings(page: ET.Element) -> Iterator[str]:
    """More or less than one h1, and levels that are left out on the way down."""
    levels = [HEADINGS.index(str(e.tag)) for e in elements(page) if e.tag in HEADINGS]
    if levels.count(0) != 1 or levels[0]:
        yield f"{levels.count(0)} h1, the first heading is {HEADINGS[levels[0]]}"
    for above, below in itertools.pairwise(levels):
        if below > above + 1:
            yield f"{HEADINGS[below]} under {HEADINGS[above]}"


def find_unnamed(page: ET.Element) -> Iterator[str]:
    """What a screen reader could not name: headers without scope, pictures and regions."""
    if not page.get("lang"):
        yield "a page without a language"
    if not "".join(page.find("head/title").itertext()).strip():  # type: ignore[union-attr]
        yield "a page without a title"
    for element in elements(page):
        tag = str(element.tag).rpartition("}")[2]
        named = element.get("aria-label") or element.get("aria-labelledby")
        if tag == "th" and element.get("scope") not in ("col", "row"):
            yield f"<th> {read(element)} without a scope"
        if tag == "table" and not element.findall(".//th"):
            yield "a table without headers"
        if (tag == "svg" or element.get("role") in ("img", "region")) and not named:
            is_decoration = element.get("aria-hidden") == "true"
            if not is_decoration and element.find("{*}title") is None:
                yield f"<{tag}> without a name"
        if tag in ("a", "summary", *HEADINGS) and not read(element):
            yield f"<{tag}> without words"


def elements(page: ET.Element) -> Iterator[ET.Element]:
    """All elements of a page, but for comments."""
    return (element for element in page.iter() if isinstance(element.tag, str))


def read(element: ET.Element) -> str:
    """The words of an element, with single blanks between."""
    return " ".join(" ".join(element.itertext()).split())


def classes(element: ET.Element) -> set[str]:
    """The classes of an element."""
    return {*element.get("class", "").split()}


def find_class(page: ET.Element, name: str) -> list[ET.Element]:
    """The elements of a class, in their order."""
    return [element for element in elements(page) if name in classes(element)]
