"""Errors that cross module boundaries."""

import difflib
import errno
import signal
import traceback
from collections.abc import Iterable
from pathlib import Path

_LISTED = 20  # names of a list in a sentence

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
_REMEDIES = dict.fromkeys(_FULL, "make room or choose another folder") | {
    errno.EIO: "look at the disk",
    errno.EISDIR: "give a file",
    errno.ELOOP: "look at its symbolic links",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOMEM: "lower the sizes in the config",
    errno.ENOTDIR: "give a folder",
}


class UserError(Exception):
    """A mistake of the user's: one sentence that says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class Stopped(SystemExit):
    """A signal asked the process to end; the exit status is 128 + its number."""

    def __init__(self, number: int, sentence: str = ""):
        """`sentence` says what is kept."""
        super().__init__(128 + number)
        self.sentence = sentence or {signal.SIGINT: "interrupted"}.get(number, "terminated")

    def __str__(self) -> str:
        return self.sentence


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


def ending(error: BaseException) -> tuple[int | None, str]:
    """Returns exit status and sentence of a command that ended with this error.

    The sentence has one line, and is empty where there is nothing to say. The status is None where
    the error is none that a user can do something about, or has a way out of its own.
    """
    if isinstance(error, UserError):
        return 2, one_line(error)
    if isinstance(error, Stopped):
        return error.code, one_line(error)
    if isinstance(error, KeyboardInterrupt):
        return ending(Stopped(signal.SIGINT))
    if isinstance(error, BrokenPipeError):  # who reads the output has seen enough
        return 141, ""
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        what = error.filename or "a file cannot be written"
        return 2, one_line(f"{what}: {error.strerror}; {_REMEDIES[error.errno]}")
    if isinstance(error, MemoryError) or str(error).startswith("RESOURCE_EXHAUSTED"):
        return 2, "there is not enough memory; lower the sizes in the config"
    return None, ""
