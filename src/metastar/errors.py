"""Errors that cross module boundaries."""

import difflib
from collections.abc import Iterable


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?`, or the list of known names where none is near.

    Where nothing is known it says so.
    """
    known = sorted(known)
    if not known:
        return "; there is none"
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
