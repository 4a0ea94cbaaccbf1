"""What runs the cells of a sweep: one file of `executors/` each, found by its name."""

import contextlib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from metastar.errors import UserError

PROMPT = "$ metastar "  # begins the line with a command, ahead of its output


class Share(NamedTuple):
    """What each command of a cell may take."""

    cores: int
    memory_gb: float  # GiB


class Executor(NamedTuple):
    """Runs commands; `make(settings, share, jobs, folder)` of its file makes it.

    `settings` are those of its `DEFAULTS`, from its section of the sweep file; at most `jobs` are
    at it at once (None: it decides); `folder` is that of the runs.

    `start(argv, log, taken)` starts `python -m metastar *argv`, which with its output goes to the
    end of the file `log`, and returns a job, or None if there is no room for it now. `taken` are
    the places of what is running; {} is one that is not known. `poll(job)` returns the exit status,
    or None while it runs; `stop(jobs)` asks some to save and end; `place(job)` says in JSON where
    it runs, also to a later call, for which `adopt(place, log)` finds the job again, or None if it
    cannot. Jobs that start within `batch()` may be handed over together at its end.
    """

    start: Callable[[Sequence[str], Path, Sequence[dict]], Any]
    poll: Callable[[Any], int | None]
    stop: Callable[[Sequence[Any]], None]
    place: Callable[[Any], dict]
    adopt: Callable[[dict, Path], Any] = lambda place, log: None
    batch: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def package(name: str, extra: str) -> ModuleType:
    """Imports what an executor needs; raises `UserError` if it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(
            f"--on={extra} needs the package {name}, which is not installed; "
            f"pip install 'metastar-jax[{extra}]'"
        ) from None
