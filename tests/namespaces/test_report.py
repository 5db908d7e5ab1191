"""The page of every lab, as this kernel makes it, and as a browser shows it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from labs.engine.catalogue import find_labs
from labs.engine.views.html import write_matrix
from labs.engine.views.report.kernels import show_content
from tests.browser import open_browser, visiting
from tests.pages import check_page, find_class, read
from tests.support import run
from tests.unit.test_html import EVERY_KIND, write
from tests.unit.test_html_tables import MIXED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.namespaces

LARGEST = 2_000_000  # bytes, of the page of all labs
PAGES = ("kinds", "english", "chinese", "matrix")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"
SHOWN = "[...document.querySelectorAll('details table')].map(each => each.checkVisibility())"


@dataclass(frozen=True)
class Report:
    """The page of all labs, and the lines of their record."""

    page: Path
    record: Path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    made = Report(folder / "all.html", folder / "all.jsonl")
    done = run("lab.all", "--html", str(made.page), "--json", str(made.record), seconds=300)
    assert done.status == 0, done.text
    return made


def test_the_page_of_every_lab(report: Report) -> None:
    page = check_page(report.page.read_text())
    labs = [lab.name for lab in find_labs()]
    assert [part.get("id") for part in find_class(page, "run")] == labs
    steps = len(find_class(page, "step"))
    assert f"{steps} steps: " in read(page)
    assert read(next(page.iter("h1"))) == "✔ as expected"
    assert len(find_class(page, "picture")) > steps * 0.9


def test_it_is_small_enough_to_be_sent(report: Report) -> None:
    assert report.page.stat().st_size <= LARGEST


def test_a_record_that_was_kept_makes_the_same_page(report: Report, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    done = run("lab.report", str(report.record), "--html", str(again), seconds=120)
    assert (done.status, done.text) == (0, "")
    assert again.read_text() == report.page.read_text()


@pytest.mark.parametrize("lab", ["fork", "userns"])
def test_a_document_that_was_kept_makes_the_same_page(lab: str, tmp_path: Path) -> None:
    page, record, again = (tmp_path / name for name in ("a.html", "a.json", "b.html"))
    assert run(f"lab.{lab}", "--html", str(page), "--json", str(record)).status == 0
    assert run("lab.report", str(record), "--html", str(again)).status == 0
    assert again.read_text() == page.read_text()


def test_a_page_on_standard_output() -> None:
    done = run("lab.unique", "--html", "-")
    assert done.status == 0
    assert "unique" in read(check_page(done.output))
    assert "18 steps" in done.errors or "steps: " in done.errors  # the terminal's view


# --- in a browser -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "kinds.html").write_text(write(EVERY_KIND))
    stream = io.StringIO()
    write_matrix(show_content(MIXED, "3 labs on 2 kernels"), stream)
    (folder / "matrix.html").write_text(stream.getvalue())
    for name, language in (("english", "en"), ("chinese", "zh")):
        done = run("lab.euid", "--lang", language, "--html", str(folder / f"{name}.html"))
        assert done.status == 0
    return folder


def violations(page: Page) -> list[str]:
    """What axe finds wrong, each with the element where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


@pytest.mark.alike
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_by_everybody(
    name: str, scheme: str, browser: Browser, pages: Path
) -> None:
    for width in (360, 1280):
        with visiting(browser, pages / f"{name}.html", width, scheme) as visit:
            assert violations(visit.page) == []
            visit.page.evaluate(OPEN_ALL)
            assert violations(visit.page) == []


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_asks_for_nothing_and_says_nothing(
    name: str, browser: Browser, pages: Path
) -> None:
    file = pages / f"{name}.html"
    for width in (360, 768, 1280, 2560):
        with visiting(browser, file, width, "light") as visit:
            visit.page.evaluate(OPEN_ALL)
            assert visit.page.evaluate(OVERFLOW) == 0, width
            assert visit.asked == [file.as_uri()]
            assert visit.said == []


@pytest.mark.browser
def test_the_page_of_every_lab_fits_a_phone(report: Report, browser: Browser) -> None:
    with visiting(browser, report.page, 360, "dark") as visit:
        visit.page.evaluate(OPEN_ALL)
        assert visit.page.evaluate(OVERFLOW) == 0
        assert visit.said == []


@pytest.mark.browser
def test_themes_differ_and_a_print_is_light(browser: Browser, pages: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    found = {}
    for scheme in ("light", "dark"):
        with visiting(browser, pages / "english.html", 800, scheme) as visit:
            found[scheme] = visit.page.evaluate(colour), visit.page.screenshot()
            visit.page.emulate_media(media="print")
            assert visit.page.evaluate(colour) == "rgb(255, 255, 255)"
    assert found["light"][0] != found["dark"][0]
    assert found["light"][1] != found["dark"][1]


@pytest.mark.browser
def test_a_print_shows_the_evidence(browser: Browser, pages: Path) -> None:
    with visiting(browser, pages / "english.html", 800, "light") as visit:
        assert not any(visit.page.evaluate(SHOWN))
        visit.page.emulate_media(media="print")
        shown = visit.page.evaluate(SHOWN)
        assert shown and all(shown)


@pytest.mark.browser
def test_a_link_leads_to_its_step(browser: Browser, pages: Path) -> None:
    with visiting(browser, pages / "english.html", 1280, "light") as visit:
        visit.page.click("nav.steps a[href='#euid-9']")
        top = visit.page.evaluate("document.getElementById('euid-9').getBoundingClientRect().top")
        assert 0 <= top < 100
