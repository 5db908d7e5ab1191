"""The adapter to Sphinx: Markdown of the project's own, as a site that needs no network."""

from __future__ import annotations

import io
import tempfile
from typing import TYPE_CHECKING

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from labs.engine.errors import EngineError
from labs.engine.site.contents import FRONT, complete, language_of
from labs.engine.site.lexer import PlayLexer
from labs.engine.site.search import BilingualSearch
from labs.engine.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SETTINGS: dict[str, object] = {
    "project": "bindlab",
    "version": VERSION,
    "release": VERSION,
    "language": "en",
    "extensions": ["myst_parser"],
    "root_doc": FRONT,
    "source_suffix": {".md": "markdown"},
    "include_patterns": ["README.md", "docs/*.md", "docs/decisions/*.md", "labs/*/brief.*.md"],
    "exclude_patterns": [".*", "build", "dist", "tests", "**/__pycache__"],
    "nitpicky": True,
    "myst_heading_anchors": 4,  # a link to a heading works where the Markdown itself is shown, too
    "html_theme": "furo",
    "html_title": "bindlab",
    "html_static_path": ["docs/site/style.css"],
    "html_css_files": ["style.css"],
    "html_extra_path": ["docs/site/index.html"],
    "html_theme_options": {"top_of_page_buttons": []},
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_use_index": False,
    "html_domain_indices": False,
    # To show words around what was found, it would fetch pages: browsers refuse that for files.
    "html_show_search_summary": False,
    "html_search_language": BilingualSearch.lang,
}


def generate(root: Path, output: Path, labs: Sequence[str]) -> None:
    """Make the site of the project at `root`; EngineError names what is wrong with its pages."""
    faults = io.StringIO()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            sphinx = Sphinx(
                root,
                None,
                output,
                scratch,
                "html",
                SETTINGS,
                status=None,
                warning=faults,
                warningiserror=True,
            )
            sphinx.add_search_language(BilingualSearch)
            sphinx.add_lexer(PlayLexer.name, PlayLexer)

            def read(_: Sphinx, page: str, source: list[str]) -> None:
                source[0] = complete(page, source[0], labs)

            sphinx.connect("source-read", read)
            sphinx.connect("html-page-context", set_language)
            sphinx.build()
    except (SphinxError, OSError) as error:
        raise EngineError(f"The site could not be built: {error}") from error
    if sphinx.statuscode:
        raise EngineError("The site's pages have faults.", faults.getvalue().strip())


def set_language(
    _: Sphinx, page: str, _template: str, context: dict[str, object], _doctree: object
) -> None:
    """Say of a page to browsers and screen readers in which language it is."""
    context["language"] = language_of(page)
