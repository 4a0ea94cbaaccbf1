"""What runs the cells of a sweep: one file of `executors/` each, found by its name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PROMPT = "$ metastar "  # begins the line with a command, ahead of its output


class Share(NamedTuple):
    """What each command of a cell may take."""

    cores: int
    memory_gb: float  # GiB


class Executor(NamedTuple):
    """Runs commands; `make(share, jobs)` of its file makes it, for at most `jobs` at once.

    `start(argv, log, taken)` starts `python -m metastar *argv`, which with its output goes to the
    end of the file `log`, and returns a job, or None if there is no room for it now. `taken` are
    the places of what is running; {} is one that is not known. `poll(job)` returns the exit status,
    or None while it runs; `stop(job)` asks it to save and end; `place(job)` says in JSON where it
    runs, also to a later call.
    """

    start: Callable[[Sequence[str], Path, Sequence[dict]], Any]
    poll: Callable[[Any], int | None]
    stop: Callable[[Any], None]
    place: Callable[[Any], dict]
