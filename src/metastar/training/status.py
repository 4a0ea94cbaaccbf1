"""`status.json`: where a run stands, for people and programs that watch it.

It is only for display: nothing that a run computes depends on it, one that is damaged reads as
none, and one that cannot be written is left out. A process that is killed leaves its last status
behind, hence `pid` and `updated`.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metastar import files, signals
from metastar.errors import Stopped, UserError, ending, one_line

FILE = "status.json"
_FORM = {
    "state": str,
    "step": int,
    "updates": int,
    "updates_per_second": files.Maybe(float),
    "updated": float,
    "returns": files.Each(float),
}
STATES = (
    "collecting",
    "compiling",
    "training",
    "evaluating",
    "reporting",
    "complete",
    "stopped",
    "failed",
)


class Status(NamedTuple):
    """What a run is doing; of several runs in one program, all of them together."""

    state: str  # of `STATES`
    phase: str | None  # of training
    step: int  # updates done, of each run
    updates: int  # in total, of each run; 0 until it is known
    updates_per_second: float | None  # of each run, over the last chunk
    started: float  # Unix time in seconds at which this process opened the workdir
    updated: float  # Unix time in seconds at which this was written
    pid: int
    returns: dict[str, float]  # the newest: `eval/<name>` of the curve, or by protocol at the end
    sentence: str | None  # what ended a run that failed or was stopped


def write(workdir: str | Path, status: Status) -> None:
    """Writes the status, whole or not at all; leaves out what is not finite."""
    returns = {name: x for name, x in status.returns.items() if math.isfinite(x)}
    with contextlib.suppress(UserError):  # the run itself says what is wrong with the folder
        files.write_json(Path(workdir) / FILE, status._replace(returns=returns)._asdict())


def read(workdir: str | Path) -> Status | None:
    """Returns the status of a run; None if there is none that is intact."""
    try:
        found = files.read_json(Path(workdir) / FILE, "")
        files.expect(found, _FORM, "", "")
        return Status(**found)
    except (UserError, TypeError):
        return None


@contextlib.contextmanager
def told(
    workdir: str | Path, clock: Callable[[], float] = time.time, every_seconds: float = 1.0
) -> Iterator[Callable[..., None]]:
    """Keeps the status of the run that goes on inside this context.

    Yields:
        `tell(state, **changes)`, where `changes` are fields of `Status`. A new state is written at
        once, and else at most one status in `every_seconds`, with all changes up to then.

    What ends the context early is told as "failed", or "stopped" if it was asked to end.
    """
    now = clock()
    status = Status("collecting", None, 0, 0, None, now, -math.inf, os.getpid(), {}, None)
    lock = threading.Lock()

    def tell(state: str, **changes: Any) -> None:
        nonlocal status
        with lock:
            now, is_new = clock(), state != status.state or status.updated < 0
            status = status._replace(**changes)
            if is_new or now - status.updated >= every_seconds:
                status = status._replace(state=state, updated=now)
                write(workdir, status)

    def tell_last(stopped: Stopped) -> None:
        """Keeps the lock, so that the main thread tells nothing more."""
        if lock.acquire(timeout=1):
            write(workdir, _ended(status, stopped)._replace(updated=clock()))

    with signals.farewell(tell_last):
        try:
            yield tell
        except BaseException as error:
            ended = _ended(status, error)
            tell(ended.state, sentence=ended.sentence)
            raise


def _ended(status: Status, error: BaseException) -> Status:
    state = "stopped" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
    sentence = ending(error)[1] or one_line(f"{type(error).__name__}: {error}")
    return status._replace(state=state, sentence=sentence)


def mean_returns(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over runs of what all of them have."""
    names = [name for name in runs[0] if all(name in own for own in runs)]
    return {name: sum(own[name] for own in runs) / len(runs) for name in names}
