"""One try at the command line, and what may go into it: text, JSON and the headers of arrays.

What holds of every try (`check`): the status is 0 or 2, a status of 2 comes with one line on
standard error that begins with `metastar: `, and nothing comes out of `main` as an exception.
"""

import contextlib
import copy
import io
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metastar import files
from metastar import main as cli
from metastar.errors import UserError, one_line

SEAL = "sha256"
KINDS = ("taken", "refused", "broken")
counts = dict.fromkeys(KINDS, 0)  # tries of the test that runs, by what came of them


class Outcome(NamedTuple):
    """What a command line did."""

    status: int | None  # None: an exception came out
    out: str
    err: str


def few_or_many(few: int, many: int) -> Any:
    """A test of `num` tries: few in every run of the tests, many in a slow one."""
    slow = pytest.param(many, marks=pytest.mark.slow)
    return pytest.mark.parametrize("num", [few, slow] if few else [slow])


def for_all(strategy: st.SearchStrategy, num: int, run: Callable[[Any], Outcome]) -> None:
    """Checks what `run` makes of `num` examples of a strategy, the same ones in every run."""
    how = settings(
        max_examples=num,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @how
    @given(strategy)
    def holds(example):
        check(run(example))

    holds()


def attempt(argv: Sequence[str]) -> Outcome:
    """Runs a command line in this process."""
    return caught(lambda: cli.main([str(word) for word in argv]))


def asked(function: Callable, *args: Any) -> Outcome:
    """Calls a function that a command line calls, and meets its `UserError` as `main` does."""

    def status():
        try:
            function(*args)
        except UserError as error:
            print(f"metastar: {one_line(error)}", file=sys.stderr)
            return 2
        return 0

    return caught(status)


def caught(run: Callable[[], int]) -> Outcome:
    """What `run` returns and prints, and what comes out of it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = run()
        except SystemExit as error:
            status = None if error.code else 0  # of --help
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            return Outcome(None, out.getvalue(), f"{type(error).__name__} at {place}: {error}")
    return Outcome(status, out.getvalue(), err.getvalue())


def check(outcome: Outcome) -> None:
    """Counts a try; fails unless it was taken, or refused in one sentence."""
    broken = fault(outcome)
    counts["broken" if broken else "refused" if outcome.status else "taken"] += 1
    assert not broken, broken


def fault(outcome: Outcome) -> str:
    """What an outcome has that none may have; "" if nothing."""
    if outcome.status not in (0, 2):
        return f"status {outcome.status}: {outcome.err}"
    if outcome.status == 0:
        return ""
    err = outcome.err
    one = err.startswith("metastar: ") and err.endswith("\n") and len(err.splitlines()) == 1
    return "" if one else f"not one sentence: {err!r}"


def refused(argv: Sequence[str]) -> str:
    """The sentence that a command line is refused with; fails if it is not."""
    outcome = attempt(argv)
    check(outcome)
    assert outcome.status == 2, f"{argv} was taken: {outcome.out[:200]}"
    return outcome.err


NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 3, 0.5, -0.0, 1e-320, 1e30, 1e308, 2**31, 2**63, 10**30, 10**400, True, False]
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "",
            " ",
            ".",
            "..",
            "/",
            "a/b",
            "os",
            "os.path",
            "١٢",
            "²",
            "nan",
            "inf",
            "1e400",
            "None",
            "\n",
            "\x00",
            "\x1b[31m",
            "a" * 5000,
            "random",
            "point_robot",
            "float32",
            "train",
            "{}",
        ]
    ),
)
VALUES = st.recursive(  # of JSON
    st.one_of(st.none(), NUMBERS, TEXTS, st.floats(), st.integers()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
RAW = st.one_of(  # the whole content of a file
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b'"a"',
            b"NaN",
            b"\xef\xbb\xbf{}",
            '{"a": 1}'.encode("utf-16"),
            '{"a": 1}'.encode("utf-32"),
            b'{"a": NaN}',
            b'{"a": Infinity}',
            b'{"a": 1e400}',
            b'{"a": ' + b"9" * 5000 + b"}",
            b'{"a": 1, "a": 2}',
            b'{"a": "\\ud800"}',
            b"[" * 100_000 + b"]" * 100_000,
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            b'{"a":' * 900 + b"1" + b"}" * 900,
            b'{"sha256": 1}',
            b'{"sha256": ["a"]}',
        ]
    ),
)


def paths(content: Any, depth: int = 8) -> list[tuple]:
    """Where something may be put into a JSON content: the keys to each of its parts.

    Of a long list the first and the last entry only.
    """
    found = [()]
    if isinstance(content, dict) and depth:
        inner = content.items()
    elif isinstance(content, list) and content and depth:
        inner = {0: content[0], len(content) - 1: content[-1]}.items()
    else:
        inner = ()
    return found + [(key, *rest) for key, part in inner for rest in paths(part, depth - 1)]


@st.composite
def changed(draw, content: Any) -> Any:
    """A JSON content with one or two of its parts replaced, removed, renamed or repeated."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(paths(content)))
        how = draw(st.sampled_from(["put", "put", "put", "remove", "rename", "repeat", "wrap"]))
        if not path:
            if how == "put":
                return draw(VALUES)
            continue
        node = content
        for key in path[:-1]:
            node = node[key]
        key, old = path[-1], node[path[-1]]
        if how == "put":
            node[key] = draw(VALUES)
        elif how == "wrap":
            node[key] = draw(st.sampled_from([[old], {"a": old}, str(old), [old, old]]))
        elif how == "remove":
            del node[key]
        elif isinstance(node, list):
            node.append(old)
        else:
            node[draw(TEXTS)] = node.pop(key) if how == "rename" else old
    return content


def write(path: Path, content: Any, sealed: bool = True) -> None:
    """Writes any JSON content, with a checksum made anew where it is an object."""
    if sealed and isinstance(content, dict):
        content = {k: v for k, v in content.items() if k != SEAL}
        content[SEAL] = files._digest(content)
    path.write_text(json.dumps(content))
