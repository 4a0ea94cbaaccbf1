import doctest

from metastar import tables


def test_the_examples_are_right():
    failed, attempted = doctest.testmod(tables)
    assert attempted and not failed


def test_plain_lines_have_one_length():
    rows = [("a", "long head"), ("a long name", "–"), ("b", "1.00 (0.50 to 1.50)")]
    assert len({len(line) for line in tables.plain(rows).splitlines()}) == 1
