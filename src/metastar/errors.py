"""Errors that cross module boundaries."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path

_LISTED = 20  # names of a list in a sentence


class UserError(Exception):
    """A mistake of the user's: one sentence that says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class Diverged(Exception):
    """A simulator cannot go on: which stream of its batch, and why.

    Raised inside `envs/`; a rollout, which knows tasks and steps, turns it into a `UserError`.
    """

    def __init__(self, stream: int, reason: str):
        super().__init__(reason)
        self.stream = stream
        self.reason = reason


def brief(value: object) -> str:
    """A value as Python writes it, or its first words where that is long."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def explain(error: BaseException, file: str | None = None) -> str:
    """`ValueError: no such thing (my_loss.py, line 12)`: what a file of the user's failed with.

    The line is the last one of `file` that ran, or of any file if it was not in that one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == str(file)] or frames
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?`, or a list of known names where none is near.

    Where nothing is known it says so.
    """
    known = sorted(known)
    if not known:
        return "; there is none"
    if near := difflib.get_close_matches(str(name)[:100], known, n=1, cutoff=0.6):
        return f"; did you mean {near[0]!r}?"
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f"; known are {', '.join(known[:_LISTED])}{more}"


def one_line(text: object) -> str:
    """The text of an error without line breaks and what else cannot be printed."""
    parts = "".join(c if c.isprintable() else "\n" for c in str(text)).splitlines()
    return " ".join(filter(None, map(str.strip, parts)))
