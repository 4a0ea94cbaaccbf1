"""What a sweep shows: a live table on a terminal, a line for every change elsewhere."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table

from metastar.tools.report import tables
from metastar.tools.sweep import state
from metastar.tools.sweep.state import Entries, Entry
from metastar.training import status
from metastar.training.status import Status

HEAD = ("cell", "state", "step", "updates/s", "left", "took", "returns")
_ORDER = ("running", "failed", "stopped", "waiting", "done")  # of a table that may be cut off
_REFRESH = 1.0  # seconds at most between two tables
_STYLES = {"done": "green", "failed": "red", "running": "bold", "stopped": "yellow"}


def rows(entries: Entries) -> list[tuple[str, ...]]:
    """Rows of text cells, one of each cell, from the entries and the workdirs of what runs."""
    return [HEAD, *((name, *_row(entry)) for name, entry in entries.items())]


def summary(entries: Entries) -> str:
    """How many cells there are in each state.

    >>> summary({"a": Entry("runs/a", "done"), "b": Entry("runs/b"), "c": Entry("runs/c")})
    '3 cells: 2 waiting, 1 done'
    """
    counts = Counter(entry.state for entry in entries.values())
    parts = [f"{counts[name]} {name}" for name in _ORDER if counts[name]]
    return f"{len(entries)} cells: {', '.join(parts)}"


def text(entries: Entries, driven: bool) -> str:
    """The table as plain text, with the sentences of the cells that have one."""
    lines = [tables.plain(rows(entries)), "", summary(entries)]
    lines += [f"{name}: {e.sentence}" for name, e in entries.items() if e.sentence]
    if not driven and any(entry.state not in state.ENDED for entry in entries.values()):
        lines.append("no process drives this sweep now; its command goes on with --resume")
    return "\n".join(lines)


@contextlib.contextmanager
def shown() -> Iterator[Callable[[Entries], None]]:
    """Yields a function that shows entries as they are now, as often as it is called."""
    if not sys.stdout.isatty():
        yield _make_lines()
        return
    with Live(console=Console(), auto_refresh=False) as live:
        yield _make_live(live)


def _make_live(live: Live) -> Callable[[Entries], None]:
    known, drawn = None, 0.0

    def show(entries):
        nonlocal known, drawn
        if entries != known or time.monotonic() - drawn >= _REFRESH:
            live.update(_table(entries), refresh=True)
            known, drawn = dict(entries), time.monotonic()

    return show


def _make_lines() -> Callable[[Entries], None]:
    known: dict[str, tuple] = {}

    def show(entries):
        for name, entry in entries.items():
            now = (entry.state, entry.began, entry.sentence)
            if known.get(name, ("waiting", None, None)) != now:
                known[name] = now
                rest = entry.sentence or _returns(entry.returns)
                took = f", {_minutes(entry.seconds)}" if entry.seconds and not entry.place else ""
                line = f"{time.strftime('%H:%M:%S')}  {name}: {entry.state}{took}"
                print(f"{line}; {rest}" if rest else line, flush=True)

    return show


def _table(entries: Entries) -> Table:
    entries = dict(sorted(entries.items(), key=lambda item: _ORDER.index(item[1].state)))
    table = Table(caption=summary(entries), caption_justify="left")
    for k, name in enumerate(HEAD):
        table.add_column(name, justify="left" if k in (0, 1, 6) else "right")
    for row, entry in zip(rows(entries)[1:], entries.values()):
        table.add_row(*row[:6], entry.sentence or row[6], style=_STYLES.get(entry.state))
    return table


def _row(entry: Entry) -> tuple[str, ...]:
    kind, step, rate, left, returns = entry.state, "–", "–", "–", entry.returns
    if kind == "running" and not entry.sentence:
        kind = "starting"
    found = _status(entry) if entry.state in ("running", "stopped") else None
    if found is not None:
        step = f"{found.step} of {found.updates}" if found.updates else "–"
        returns = found.returns
        if entry.state == "running":
            kind = found.state
            if found.updates_per_second:
                rate = f"{found.updates_per_second:.1f}"
                left = _minutes((found.updates - found.step) / found.updates_per_second)
    return (kind, step, rate, left, _minutes(entry.seconds), _returns(returns) or "–")


def _status(entry: Entry) -> Status | None:
    """What a cell says of itself in its `status.json`, unless that is of an earlier start."""
    found = status.read(entry.workdir)
    return found if found is not None and found.updated >= (entry.began or 0) else None


def _returns(returns: dict[str, float]) -> str:
    return ", ".join(f"{name.removeprefix('eval/')} {x:.1f}" for name, x in returns.items())


def _minutes(seconds: float | None) -> str:
    """
    >>> _minutes(39.0), _minutes(90.0)
    ('39 s', '1.5 min')
    """
    if seconds is None:
        return "–"
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
