"""The browser that pages are looked at in: Chromium as the system has it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str:
    """Its program; empty where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), "")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        # Root has no sandbox there, and needs none for pages of our own.
        browser = playwright.chromium.launch(
            executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()
