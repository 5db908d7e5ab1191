"""What of a kept picture or page must be the same in each run: all but what was measured."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

NUMBER = re.compile(r"\d+(\.\d+)?")
# What has its length or place from a number: bars and their band, strips, columns, who served when.
MEASURED = {"bar", "band", "wake-up", "answered", "lost", "loss", "span", "end"}
PLACE = ("x", "y", "width", "height", "d", "textLength")


def masked(text: str) -> str:
    """A text whose numbers are all 0."""
    return NUMBER.sub("0", text)


def skeleton_of(picture: str) -> list[str]:
    """The elements of an SVG document, each with its words and, if it has a fixed one, its place.

    A text with a number in it begins where it ends, and is as wide as the number is long.
    """
    return [*describe_elements(ET.fromstring(picture))]


def describe_elements(root: ET.Element) -> Iterator[str]:
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        styles = element.get("class", "").split()
        text = element.text or ""
        attributes = dict(element.attrib)
        if MEASURED & set(styles) or NUMBER.search(text):
            for name in PLACE:
                attributes.pop(name, None)
        label = attributes.pop("aria-label", "")
        fixed = " ".join(f"{name}={value}" for name, value in sorted(attributes.items()))
        yield f"{tag} {fixed} {masked(text)} {masked(label)}".strip()
