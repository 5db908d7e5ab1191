"""What holds of every page is seen to be broken where it is."""

import pytest
from html5lib.html5parser import ParseError

from tests.pages import check_page, find_faults, read_page

HEAD = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>A</title></head><body>'
GOOD = f'{HEAD}<h1 id="a">A</h1><h2>B</h2><a href="#a">A</a>'


def test_a_good_page() -> None:
    check_page(GOOD)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ("<script>1</script>", "<script>"),
        ('<img src="x.png" alt="">', "<img>"),
        ('<a href="https://x.y">x</a>', "https://x.y"),
        ('<p onclick="x()">', "onclick"),
        ('<p style="background: url(x)">', "url(x)"),
        ('<a href="#nowhere">x</a>', "no #nowhere"),
        ('<p id="a">', "id a twice"),
        ("<h1>again</h1>", "2 h1"),
        ("<h4>deep</h4>", "h4 under h2"),
        ("<table><tbody><tr><th>x</th></tr></tbody></table>", "without a scope"),
        ("<table><tbody><tr><td>x</td></tr></tbody></table>", "without headers"),
        ("<svg></svg>", "without a name"),
        ('<div role="region">x</div>', "without a name"),
        ('<p aria-labelledby="nobody">x</p>', "no #nobody"),
        ('<a href="#a"></a>', "without words"),
    ],
)
def test_a_fault_is_found(wrong: str, fault: str) -> None:
    assert any(fault in found for found in find_faults(read_page(GOOD + wrong)))


@pytest.mark.parametrize("wrong", ["<p></div>", "<p a=1 a=2>", "\x01", "<td>x</td>", "&nothing;"])
def test_what_a_browser_would_mend_is_no_page(wrong: str) -> None:
    with pytest.raises(ParseError):
        read_page(GOOD + wrong)
