"""The words that the site's search knows: English ones, and Chinese, which has no spaces."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from sphinx.search.en import SearchEnglish

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = re.compile(r"[\u4e00-\u9fff]+|[^\W\u4e00-\u9fff]+")
IS_CHINESE = re.compile(r"[\u4e00-\u9fff]")


class BilingualSearch(SearchEnglish):
    """Words of English, with their endings cut; of Chinese each two letters in a row."""

    lang = "bilingual"
    # find_words() for what a reader types.
    js_splitter_code = r"""
function splitQuery(query) {
  const runs = query.match(/[\u4e00-\u9fff]+|(?:(?![\u4e00-\u9fff])[\p{L}\p{N}_])+/gu) || [];
  return runs.flatMap((run) =>
    /[\u4e00-\u9fff]/.test(run) && run.length > 2
      ? Array.from({ length: run.length - 1 }, (_, start) => run.slice(start, start + 2))
      : [run]);
}
"""

    def split(self, input: str) -> list[str]:  # noqa: A002  # Sphinx names it so
        """The words of a text, as they are looked for."""
        return [*find_words(input)]


def find_words(text: str) -> Iterator[str]:
    """The words of a text; of Chinese each two letters in a row, or one that stands alone."""
    for run in RUN.findall(text):
        if IS_CHINESE.match(run) and len(run) > 2:
            yield from map("".join, pairwise(run))
        else:
            yield run
