"""`metastar sweep`: from a sweep file to its results, and a look at how far it is."""

import argparse
import math
from pathlib import Path

from metastar import registry
from metastar.errors import UserError
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import collection, driver, grid, search, state, table
from metastar.tools.sweep.executor import Share
from metastar.tools.sweep.state import Entries


def run(args: argparse.Namespace) -> str:
    """Does what the arguments of `options.py` ask for; returns and raises as what it calls."""
    *verbs, source = args.words
    if verbs == ["status"]:
        return status(source)
    if verbs:
        raise UserError(f"sweep takes one file, not {' '.join(args.words)}; or status and a file")
    names = ("resume", "only_failed", "minutes", "jobs", "on", "dry_run")
    return sweep(source, **{name: getattr(args, name) for name in names}, draws=args.search)


def sweep(
    source: str,
    resume: bool = False,
    only_failed: bool = False,
    minutes: float = math.inf,
    jobs: int | None = None,
    on: str = "local",
    draws: int = 0,
    dry_run: bool = False,
) -> str:
    """Runs the cells of a sweep file that are not done yet.

    Args:
        source: `FILE.py` or `FILE.py:argument`.
        resume: go on with all that is not done, after an earlier call.
        only_failed: start again what failed in an earlier call, and nothing else.
        minutes: after which no further cell is started.
        jobs: cells at once, at most; None: as many as cores and memory allow.
        on: the executor's name, a file of `executors/`.
        draws: how many settings of the file's `search` are drawn for each cell; 0: none, the cells
            as they are.
        dry_run: start nothing.

    Returns:
        What a terminal is told at the end; of a dry run the line of every cell.

    Raises:
        UserError: the sweep file, a cell, a result file or the executor is refused; the folder of
            the runs is another sweep's; an earlier call has begun and neither `resume` nor
            `only_failed` is given; cells failed, once all others have ended.
        SystemExit: 128 + the number of the signal that stopped it, once all cells have saved.
    """
    plan = grid.read(source)
    cells = grid.cells(plan)
    settings = search.draw(plan, cells, draws) if draws else []
    trained = grid.cells(plan, settings) if draws else cells
    cells = collection.with_blocks(trained, plan)
    if dry_run:
        return "\n".join(cell_files.command(cell) for cell in cells)
    registry.expect("executor", on)
    share = Share(plan.cores, plan.memory_gb)
    executor = registry.make("executor", on, plan.executors[on], share, jobs, plan.runs)
    with state.held(plan.runs):
        earlier = state.read(plan.runs)
        state.expect_same(plan.runs, source, [cell.name for cell in cells])
        entries = driver.entries_of(cells, plan, earlier)
        names = driver.chosen(cells, entries, only_failed)
        if names and entries.keys() & earlier.keys() and not (resume or only_failed):
            raise UserError(
                f"an earlier call of this sweep left its state in {plan.runs / state.FILE}; go on "
                "with --resume, or with --only-failed, or delete the folder"
            )
        _make_folder(plan.results)
        with table.shown() as show:
            number = driver.drive(cells, plan, executor, entries, names, show, minutes)
        if draws:
            print(search.write(plan, settings, trained, entries), flush=True)
    if number:
        print(f"metastar: stopped; {table.summary(entries)}; go on with --resume", flush=True)
        raise SystemExit(128 + number)
    if failed := [name for name, entry in entries.items() if entry.state == "failed"]:
        sentences = "; ".join(f"{name}: {entries[name].sentence}" for name in failed)
        raise UserError(
            f"{table.summary(entries)}; start the failed ones again with --only-failed; {sentences}"
        )
    rest = "" if _all_done(entries) else "; the same command with --resume goes on"
    return f"{table.summary(entries)}{rest}; results: {plan.results}"


def status(source: str) -> str:
    """The table of a sweep, from its files alone, for a sweep file or the folder of its runs.

    Raises:
        UserError: no sweep was started there, or its state is damaged.
    """
    runs = Path(source) if Path(source).is_dir() else grid.read(source).runs
    if not (entries := state.read(runs)):
        raise UserError(f"no sweep was started in {runs}; start it with metastar sweep FILE")
    return table.text(entries, state.is_held(runs))


def _make_folder(results: Path) -> None:
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder of the results, {results} ({error.strerror}); name another "
            "one in the field results of the sweep file"
        ) from None


def _all_done(entries: Entries) -> bool:
    return all(entry.state == "done" for entry in entries.values())
