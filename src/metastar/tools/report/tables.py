"""Tables of text cells, for a terminal and for a Markdown page. The first row is the head."""

from collections.abc import Sequence
from pathlib import Path

from metastar import files
from metastar.errors import UserError

Rows = Sequence[Sequence[str]]


def plain(rows: Rows) -> str:
    """Aligned columns under a line: the first to the left, the others to the right.

    >>> print(plain([("group", "return"), ("bc", "7.5")]))
    group  return
    -------------
    bc        7.5
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    head, *body = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join([head, "-" * len(head), *body])


def markdown(rows: Rows) -> str:
    """A Markdown table, aligned alike.

    >>> print(markdown([("group", "return"), ("bc", "7.5")]))
    | group | return |
    | --- | ---: |
    | bc | 7.5 |
    """
    head, *body = rows
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def insert(page: Path, label: str, content: str) -> None:
    """Puts `content` between the marks `<!-- label -->` and `<!-- /label -->` of a Markdown page.

    Raises `UserError` if the page lacks one of them.
    """
    start, end = f"<!-- {label} -->\n", f"<!-- /{label} -->"
    before, start_found, rest = page.read_text().partition(start)
    _, end_found, after = rest.partition(end)
    if not (start_found and end_found):
        raise UserError(
            f"{page} lacks {start.strip()!r} on a line of its own or {end!r} after it; write both "
            "where the table belongs"
        )
    files.write_atomic(page, f"{before}{start}{content}{end}{after}")
