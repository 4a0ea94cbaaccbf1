"""The one error a user may cause (floor F0)."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: one sentence that says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?`, or the list of known names where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
