"""What the experiments share: to read what sweeps found, and forms of numbers."""

import os
from pathlib import Path

import numpy as np

from metastar import files
from metastar.evaluation import results
from metastar.ops.statistics import seed_task_interval
from metastar.tools.report import codes, compare, groups, tables
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import grid
from metastar.tools.sweep.grid import Cell
from metastar.training import metrics

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs"


def cells_of(source: str) -> list[tuple[Cell, Path]]:
    """Every cell of a sweep file with its result file, which need not be there yet."""
    sweep = grid.read(source)
    root = DOCS.parent
    return [(cell, root / cell_files.file_of(cell, sweep)) for cell in grid.cells(sweep)]


def found_by(source: str) -> dict[str, list[dict]]:
    """The runs of the finished cells of a sweep file, by group: `results` and `audit` of each."""
    found: dict[str, list[dict]] = {}
    for cell, file in cells_of(source):
        if file.exists():
            found.setdefault(cell.group, []).extend(cell_files.read(file)["runs"])
    return found


def compared(sources: list[Path], out: Path) -> str:
    """The tables of `metastar compare` on files, returns and codes; its files go to `out`."""
    named = [os.path.relpath(path) for path in sources]
    compare.compare(named, os.path.relpath(out))
    found = groups.read(named)
    parts = [compare.table(found, groups.measure(found)), codes.table(found)]
    return "\n\n".join(tables.markdown(rows) for rows in parts if rows)


def log(label: str, rows: list[tuple[str, ...]], commands: str) -> None:
    """Writes a sweep's table to `docs/log.md`, and prints it; its files lie in a folder `label`."""
    files = f"`experiments/results/{label}/`"
    page = f"{tables.markdown(rows)}\n\nCommands: {commands}; files: {files}.\n"
    tables.insert(DOCS / "log.md", label, page)
    print(page)


def read(folder: Path, name: str) -> dict:
    """The JSON file `name` of a folder, results in today's shape; a checksum must match."""
    return results.translate(files.read_json(folder / name, "make it again", sealed=False))


def curve(folder: Path, name: str) -> tuple[list[int], list[float]]:
    """Updates and means of the evaluations `name` during a run's training, of its workdir."""
    rows = [row for row in metrics.read_rows(folder / metrics.FILE) if f"eval/{name}" in row]
    return [row["step"] for row in rows], [row[f"eval/{name}"] for row in rows]


def spread(values: np.ndarray | list[float | None], form: str = "{:.3f}") -> str:
    """Mean over seeds, with the least and the largest; – where one has no such number."""
    if any(value is None for value in values):
        return "–"
    low, high = (form.format(x) for x in (np.min(values), np.max(values)))
    return f"{form.format(np.mean(values))} ({low} to {high})"


def on_test_tasks(audit: dict) -> dict:
    """What an audit says of test tasks: `trained` of the sources of the training, `others` of all.

    Where the training has every source there are no `others`; where all windows have a reward there
    is no `rewarded`, which is of all sources.
    """
    split = audit["splits"]["test"]
    parts = {"open_loop": audit["open_loop"]["test"], "use": audit["use"]}
    if "informative" in split:
        parts["rewarded"] = split["informative"]
    if "trained" not in split:
        return parts | {"trained": split["all"]}
    return parts | {"trained": split["trained"], "others": split["all"]}


def at(path: tuple[str | int, ...], measures: dict) -> float | None:
    """What stands at a path of an audit's measures; None if too few tasks let it be computed."""
    for name in path:
        if "not_computed" in measures:
            return None
        measures = measures[name]
    return measures


def results_of(file: Path) -> list[dict]:
    """The results of all runs of a cell."""
    return [run["results"] for run in cell_files.read(file)["runs"]]


def interval(blocks: list[dict], *path: str, form: str = "{:.1f}") -> str:
    """Mean over seeds and tasks of one block of results, with its interval; – if one lacks it."""
    for name in path:
        if any(block.get(name) is None for block in blocks):
            return "–"
        blocks = [block[name] for block in blocks]
    scores = np.array([block["per_task"] for block in blocks], float)
    low, high = seed_task_interval(scores)
    return f"{form.format(scores.mean())} ({form.format(low)} to {form.format(high)})"
