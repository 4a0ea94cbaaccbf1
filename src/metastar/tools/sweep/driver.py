"""Starts the cells of a sweep, waits for them, and keeps what they found."""

import math
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from metastar import signals
from metastar.collection import collect
from metastar.data import store
from metastar.errors import UserError
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import state
from metastar.tools.sweep.executor import PROMPT, Executor
from metastar.tools.sweep.grid import Cell, Sweep
from metastar.tools.sweep.state import Entries, Entry
from metastar.training import workdir

PAUSE = 0.2  # seconds between two looks at the processes
_EARLIER = "runs in a process that an earlier call started"
_SAYS = "metastar: "  # how a command's own sentences begin
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


class Clock(NamedTuple):
    """Time, which a test may tell as it likes."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def entries_of(cells: list[Cell], sweep: Sweep, earlier: Entries) -> Entries:
    """What is known of every cell, from its result file and from what an earlier call left.

    Raises `UserError` if a result file is damaged or of another config.
    """
    found = {}
    for cell in cells:
        entry = earlier.get(cell.name, Entry(str(cell.workdir)))
        if cell_files.is_done(cell, sweep):
            content = cell_files.read(cell_files.file_of(cell, sweep))
            returns = cell_files.returns(content)
            entry = entry._replace(state="done", returns=returns, sentence=None)
        elif entry.state == "done":  # its result file was moved away
            entry = entry._replace(state="waiting")
        found[cell.name] = entry
    return found


def chosen(cells: list[Cell], entries: Entries, only_failed: bool = False) -> set[str]:
    """Names of the cells to run: all that are not done, or those that failed.

    Besides, what these need and what is done by its result file alone: its workdir is gone.
    """
    states = ("failed",) if only_failed else ("waiting", "running", "stopped", "failed")
    found = {name for name, entry in entries.items() if entry.state in states}
    for cell in reversed(_in_order(cells)):
        if cell.name in found:
            done = [name for name in cell.needs if entries[name].state == "done"]
            found |= {n for n in done if not Path(entries[n].workdir, "config.json").exists()}
    return found


def _in_order(cells: list[Cell]) -> list[Cell]:
    """Cells after those that they need."""
    by_name, placed = {cell.name: cell for cell in cells}, {}

    def place(cell):
        for name in cell.needs:
            place(by_name[name])
        placed[cell.name] = cell

    for cell in cells:
        place(cell)
    return list(placed.values())


class _Work(NamedTuple):
    """A call of `drive`: what does not change, and what does."""

    cells: dict[str, Cell]
    sweep: Sweep
    executor: Executor
    clock: Clock
    deadline: float  # Unix seconds after which no cell is started
    entries: Entries  # changed in place
    ended: dict[str, int]  # commands that have ended well, of every cell that this call may start
    jobs: dict[str, Any]  # what this call started and runs


def drive(
    cells: list[Cell],
    sweep: Sweep,
    executor: Executor,
    entries: Entries,
    names: Iterable[str],
    show: Callable[[Entries], None],
    minutes: float = math.inf,
    clock: Clock = Clock(),  # noqa: B008 - immutable
) -> int:
    """Runs cells, as many at once as the executor has room for; changes `entries`.

    A cell that fails stops no other but those that need it. One whose workdir another process
    holds, left behind by a call that was killed, is waited for and then goes on here. Of the cells
    that lack the same data set only one runs until that is made, but blocks of it all at once.

    Args:
        cells: of the sweep.
        sweep: where they are.
        executor: what runs their commands.
        entries: of all cells.
        names: of the cells to run.
        show: takes the entries, again and again.
        minutes: after which no further cell is started.
        clock: the time.

    Returns:
        The number of the signal that ended it, once its cells had saved and stopped; 0 if none.

    Raises:
        UserError: the state cannot be written.
    """
    entries |= {n: entries[n]._replace(state="waiting", sentence=None) for n in names}
    deadline = clock.now() + 60 * minutes
    by_name = {cell.name: cell for cell in cells}
    work = _Work(by_name, sweep, executor, clock, deadline, entries, dict.fromkeys(names, 0), {})
    written, stopping = None, 0
    try:
        with signals.caught(held=True) as received:
            while True:
                if received and not stopping:
                    stopping = received.pop(0)
                    executor.stop(list(work.jobs.values()))
                for name in _running(entries):
                    _look_after(work, name, bool(stopping))
                no_room = not stopping and _start_all(work)
                if entries != written:
                    state.write(sweep.runs, entries, sweep.source)
                    written = dict(entries)
                show(entries)
                if not work.jobs and (stopping or not (no_room or _running(entries))):
                    return stopping
                clock.sleep(PAUSE)
    finally:
        executor.stop(list(work.jobs.values()))  # if there are some: an error of the sweep's own


def _running(entries: Entries) -> list[str]:
    return [name for name, entry in entries.items() if entry.state == "running"]


def _look_after(work: _Work, name: str, stopping: bool) -> None:
    """Notices that the command of a cell has ended, and how."""
    entry, cell = work.entries[name], work.cells[name]
    if name not in work.jobs:  # started by an earlier call
        if not workdir.is_held(cell.workdir):
            work.entries[name] = entry._replace(state="waiting", place=None)
        return
    status = work.executor.poll(work.jobs[name])
    if status is None:
        return
    del work.jobs[name]
    seconds = work.clock.now() - entry.began
    entry = entry._replace(place=None, seconds=(entry.seconds or 0) + seconds)
    if status == 0:
        work.ended[name] += 1
        entry = entry._replace(state="waiting", sentence=None)
        if work.ended[name] == len(cell_files.commands(cell)):
            try:
                entry = entry._replace(state="done", returns=cell_files.write(cell, work.sweep))
            except UserError as error:
                entry = entry._replace(state="failed", sentence=str(error))
    elif stopping or status in _STOPPED:
        entry = entry._replace(state="stopped", sentence="stopped by a signal; --resume goes on")
    elif workdir.is_held(cell.workdir):  # another process was first
        entry = entry._replace(state="waiting")
    else:
        log = cell_files.log_of(cell, work.sweep)
        entry = entry._replace(state="failed", sentence=sentence_of(log, status))
    work.entries[name] = entry


def _start_all(work: _Work) -> bool:
    """Starts what may start; returns whether something waits for cores or memory alone."""
    before = set(work.jobs)
    with work.executor.batch():
        no_room = _start_each(work)
    for name in work.jobs.keys() - before:  # now that they are handed over
        place = work.executor.place(work.jobs[name])
        work.entries[name] = work.entries[name]._replace(place=place)
    return no_room


def _start_each(work: _Work) -> bool:
    """`_start_all`, while the executor collects what it is given."""
    names = [n for n, e in work.entries.items() if e.state == "waiting" and n in work.ended]
    for name in sorted(names, key=lambda name: -work.ended[name]):  # stable: begun ones first
        cell, entry = work.cells[name], work.entries[name]
        ended = work.ended[name]
        if reason := _failed_need(work, cell):
            work.entries[name] = entry._replace(state="failed", sentence=reason)
            continue
        if ended == 0 and work.clock.now() >= work.deadline:
            continue
        if reason := _waits_for(work, cell):
            work.entries[name] = entry._replace(sentence=reason)
            continue
        log = cell_files.log_of(cell, work.sweep)
        job = work.executor.adopt(entry.place, log) if entry.place else None
        if job is not None:
            work.jobs[name] = job
            work.entries[name] = entry._replace(state="running", sentence=_EARLIER)
            continue
        if workdir.is_held(cell.workdir):
            work.entries[name] = entry._replace(
                state="running", place=entry.place or {}, sentence=_EARLIER
            )
            continue
        argv = cell_files.commands(cell)[ended]
        taken = [work.entries[other].place for other in _running(work.entries)]
        job = work.executor.start(argv, log, taken)
        if job is None:
            if not taken:  # then it is not other cells that take the room
                entry = entry._replace(sentence="waits until the memory of a cell is free")
                work.entries[name] = entry
            return True
        work.jobs[name] = job
        began, place = work.clock.now(), work.executor.place(job)
        seconds = entry.seconds if ended else None
        doing = f"runs {argv[0]}" if argv[0] != "train" else None
        work.entries[name] = entry._replace(
            state="running", began=began, seconds=seconds, place=place, sentence=doing
        )
    return False


def _failed_need(work: _Work, cell: Cell) -> str | None:
    failed = [name for name in cell.needs if work.entries[name].state == "failed"]
    return f"needs {failed[0]}, which failed" if failed else None


def _waits_for(work: _Work, cell: Cell) -> str | None:
    """Why a cell cannot start yet."""
    missing = [name for name in cell.needs if work.entries[name].state != "done"]
    if missing:
        return f"waits for {missing[0]}"
    if cell.is_block:
        return None
    data = collect.directory_of(cell.cfg)
    others = [work.cells[name] for name in _running(work.entries)]
    if not (data / store.MANIFEST).exists():
        for other in others:
            if collect.directory_of(other.cfg) == data:
                return f"waits for the data set that {other.name} makes"
    return None


def sentence_of(log: Path, status: int) -> str:
    """Why a command failed: the last `metastar: ...` of what it wrote, or its last line."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    begins = [k for k, line in enumerate(lines) if line.startswith(PROMPT)]
    lines = [line.strip() for line in lines[begins[-1] + 1 if begins else 0 :] if line.strip()]
    said = [line.removeprefix(_SAYS) for line in lines if line.startswith(_SAYS)]
    if said:
        return said[-1]
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}; its output is in {log}"
    last = lines[-1] if lines else "nothing"
    return f"ended with status {status}; the last line in {log} is {last!r}"
