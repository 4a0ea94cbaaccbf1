import pytest

from metastar.errors import UserError
from metastar.tools.report import tables


def test_plain_lines_have_one_length():
    rows = [("a", "long head"), ("a long name", "–"), ("b", "1.00 (0.50 to 1.50)")]
    assert len({len(line) for line in tables.plain(rows).splitlines()}) == 1


def test_insert_replaces_what_is_between_the_marks_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n")
    tables.insert(page, "x", "new\n")
    tables.insert(page, "x", "newer\n")
    assert page.read_text() == "a\n<!-- x -->\nnewer\n<!-- /x -->\nb\n"


@pytest.mark.parametrize("text", ["", "<!-- x -->\n", "<!-- /x -->\n<!-- x -->\n", "<!-- x --> a"])
def test_a_page_without_the_marks_is_refused_and_left_as_it_is(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(
        UserError, match=r"page\.md lacks '<!-- x -->' .* or '<!-- /x -->' after it"
    ):
        tables.insert(page, "x", "new\n")
    assert page.read_text() == text
