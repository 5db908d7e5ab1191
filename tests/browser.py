"""Pages in a real browser: headless Chromium, with what it says and what it asks for."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# In a container, as root, on a machine without a screen.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage")


def find_chromium() -> str:
    """Where Chromium is; empty where it is not."""
    return next(filter(None, map(shutil.which, PROGRAMS)), "")


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser that is gone after the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page that is open, what its console has said and what it has asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def visiting(browser: Browser, file: Path, width: int, scheme: str) -> Iterator[Visit]:
    """A file in a window of this width, in the colour scheme `light` or `dark`."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        offline=True,
    )
    visit = Visit(context.new_page())
    visit.page.on("console", lambda message: visit.said.append(message.text))
    visit.page.on("pageerror", lambda error: visit.said.append(str(error)))
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    try:
        visit.page.goto(file.as_uri())
        yield visit
    finally:
        context.close()
