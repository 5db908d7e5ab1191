"""docs.build: the whole site, its links, and that it asks nothing of a network."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from labs.engine.authoring.texts import find_faults_of_file
from labs.engine.catalogue import LABS, list_labs
from labs.engine.errors import CannotRun
from labs.engine.site.building import build_site
from labs.engine.site.chinese import join_lines
from labs.engine.site.contents import complete
from labs.engine.site.sheet import GROUPS, NEWCOMERS, OCCUPANTS
from tests.support import ROOT, run

SITE = LABS / "engine" / "site"
# What a browser gets by itself, by tag and attribute; a link is followed by whoever clicks on it.
FETCHED = {
    *(("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")),
    *(("link", "href"), ("img", "srcset"), ("object", "data"), ("use", "href"), ("form", "action")),
}


class Page(HTMLParser):
    """The anchors, links and resources of a page, and its language."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.silent: list[str] = []
        self.language = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.language = values.get("lang", "")
        if tag == "img" and not values.get("alt"):
            self.silent.append(values.get("src", ""))
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.resources += [values[name] for name in values if (tag, name) in FETCHED]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = run("docs.build", "--output", str(folder), seconds=300)
    assert (done.status, done.errors) == (0, "")
    assert done.output == f"The site begins at {folder / 'index.html'}\n"
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_of_markdown_is_there(site: Path, pages: dict[Path, Page]) -> None:
    names = {str(path.relative_to(site)) for path in pages}
    briefs = {f"labs/{lab}/brief.{lang}.html" for lab in list_labs(LABS) for lang in ("en", "zh")}
    docs = {
        str(path.relative_to(ROOT).with_suffix(".html")) for path in (ROOT / "docs").rglob("*.md")
    }
    assert names == {"index.html", "README.html", "search.html"} | briefs | docs


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    followed = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", link
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_relative_to(site), f"{path}: {link}"
            assert target.is_file(), f"{path}: {link}"
            if parts.fragment and target in pages:
                anchors = pages[target].anchors
                assert unquote(parts.fragment) in anchors or not anchors, f"{path}: {link}"
            followed += 1
    assert followed > 1000


def test_nothing_is_fetched_from_outside(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.resources or path == site / "index.html"
        for resource in page.resources:
            parts = urlsplit(resource)
            assert not parts.scheme, f"{path}: {resource}"
            assert not parts.netloc, f"{path}: {resource}"
            if parts.path:  # the rest is of the page itself
                assert (path.parent / unquote(parts.path)).is_file(), f"{path}: {resource}"
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        text = path.read_text()
        assert "@import" not in text, path
        for address in re.findall(r"url\(\s*[\"']?(.{5})", text):
            assert address == "data:" or address.startswith("#"), path


def test_every_picture_has_words(pages: dict[Path, Page]) -> None:
    assert not [page.silent for page in pages.values() if page.silent]


def test_a_page_says_in_which_language_it_is(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.language == ("zh" if path.stem.endswith(".zh") else "en"), path


def test_briefs_lead_to_each_other(site: Path, pages: dict[Path, Page]) -> None:
    for lab in list_labs(LABS):
        folder = site / "labs" / lab
        assert "brief.zh.html" in pages[folder / "brief.en.html"].links
        assert "brief.en.html" in pages[folder / "brief.zh.html"].links


def test_search_knows_english_and_chinese_words(site: Path) -> None:
    index = (site / "searchindex.js").read_text()
    found = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    assert {"setsockopt", "端口", "内核"} <= set(found["terms"])
    script = (site / "_static" / "language_data.js").read_text()
    assert "function splitQuery(query)" in script
    (stemmer,) = re.findall(r"^window\.Stemmer = (.+);$", script, re.MULTILINE)
    assert f"var {stemmer}=function" in script


# --- what is wrong -------------------------------------------------------------------------


def test_a_link_to_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "docs" / "site").mkdir(parents=True)
    for name in ("style.css", "index.html"):
        (tmp_path / "docs" / "site" / name).touch()
    (tmp_path / "docs" / "index.md").write_text("# Front\n\n[gone](nowhere.md)\n")
    code = (
        "import sys; from pathlib import Path;"
        "from labs.engine.site.generator import generate;"
        "from labs.engine.errors import EngineError\n"
        "try: generate(Path(sys.argv[1]), Path(sys.argv[2]), [])\n"
        "except EngineError as error: print(error.message, error.hint)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pages have faults" in done.stdout
    assert "index.md:3" in done.stdout
    assert "nowhere.md" in done.stdout


def test_without_the_generator_a_word_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "furo", None)  # as if it were not installed
    with pytest.raises(CannotRun, match=r"^furo is not installed\.$") as raised:
        build_site("")
    assert raised.value.hint.endswith(f"-m pip install --editable '{ROOT}[docs]'")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("docs.build", "--output", str(tmp_path / "file"))
    assert done.status == 70
    assert "could not be built" in done.errors
    assert "Traceback" not in done.errors


# --- what only the site has ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("端口，\n内核", "端口，内核"),
        ("端口，\n  内核", "端口，内核"),
        ("端口\nkernel", "端口\nkernel"),
        ("端口\n\n内核", "端口\n\n内核"),
        ("端口\n- 内核", "端口\n- 内核"),
        ("```text\n端口\n内核\n```", "```text\n端口\n内核\n```"),
    ],
)
def test_lines_of_chinese_are_joined(text: str, joined: str) -> None:
    assert join_lines(text) == joined


def test_a_page_that_is_nothing_special_stays_as_it_is() -> None:
    text = "# Title\n\nText.\n"
    assert complete("docs/record", text, ["euid"]) == text


def said(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._say":
            yield from (str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def test_what_the_pages_say_is_there_in_every_language() -> None:
    texts = {*said(SITE / "gallery.py"), *said(SITE / "sheet.py")}
    assert len(texts) > 20
    heads = {one.head for one in (*NEWCOMERS, *OCCUPANTS)}
    texts |= heads | {title for title, _ in GROUPS}
    assert [*find_faults_of_file(SITE / "zh.po", texts)] == []
