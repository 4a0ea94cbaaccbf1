"""What a CQL penalty learns per second: exact or sampled gradient, fewer actions and states.

    metastar sweep experiments/sweeps/critics.py:point_robot_sparse
    python experiments/critics.py --table=point_robot_sparse

The second reads the curves in the workdirs of the first. It writes those of every seed and their
seconds in the last phase to `experiments/results/critics_<table>.json`, a figure beside it, and a
table to `docs/benchmarks.md`. Call both from the root of the checkout.
"""

import argparse
import io
from pathlib import Path

import cells
import numpy as np
from matplotlib.figure import Figure
from sweeps.critics import TABLES, label_of

from metastar import files
from metastar.tools.bench import report as bench_report
from metastar.tools.report import tables
from metastar.tools.sweep.grid import Cell
from metastar.training import metrics, provenance, runs, workdir

PAGE = cells.DOCS / "benchmarks.md"
SWEEP = Path(__file__).parent / "sweeps/critics.py"
REACHED = 0.9  # of the way from uniform actions to the best end: what the table asks the time of


def read(name: str) -> dict:
    """Everything that the table and the figure show; reads the workdirs of the sweep."""
    table = TABLES[name]
    found = [cell for cell, _ in cells.cells_of(f"{SWEEP}:{name}")]
    return {
        "family": table.family,
        "method": table.method,
        "num_seeds": table.seeds,
        "machine": bench_report.machine(),
        "versions": provenance.versions(),
        "command": f"metastar sweep experiments/sweeps/critics.py:{name}",
        "cells": {form: curves(cell) for form, cell in zip(table.forms, found, strict=True)},
    }


def curves(cell: Cell) -> dict:
    """The curves of one form: updates [P], seconds [P], few-shot returns [S, P]."""
    folders = [run.workdir for run in runs.expand(cell.cfg, cell.workdir)]
    first = cells.read(folders[0], "results.json")
    found = [curve(folder) for folder in folders]
    return {
        "updates": found[0][0],
        "seconds": found[0][1],
        "few_shot": [returns for *_, returns in found],
        "random": first["bounds"]["random"],
        "commit": first["commit"],
    }


def curve(folder: Path) -> tuple[list[int], list[float], list[float]]:
    """Updates and seconds of a run's last phase, and few-shot return, at every evaluation."""
    rows = [row for row in metrics.read_rows(folder / "metrics.jsonl") if "phase" in row]
    rows = [row for row in rows if row["phase"] == rows[-1]["phase"]]
    steps = np.array([row["step"] for row in rows])
    updates = steps - (steps[-1] - workdir.read_config(folder).train.updates)
    rates = [row["updates_per_second"] for row in rows]
    seconds = np.cumsum(np.diff(updates, prepend=0) / rates)
    scored = ["eval/few_shot" in row for row in rows]
    returns = [row["eval/few_shot"] for row in rows if "eval/few_shot" in row]
    return updates[scored].tolist(), seconds[scored].tolist(), returns


def ends(report: dict) -> dict[str, np.ndarray]:
    """The mean of the last three evaluations of every seed, by cell."""
    return {n: np.array(c["few_shot"])[:, -3:].mean(1) for n, c in report["cells"].items()}


def table(report: dict) -> str:
    """One line per cell."""
    head = ("CQL penalty", "ms per update", "return at the end", "seeds from to")
    rows = [(*head, f"updates to {REACHED:.0%}", f"seconds to {REACHED:.0%}")]
    best = max(last.mean() for last in ends(report).values())
    for (name, cell), last in zip(report["cells"].items(), ends(report).values()):
        returns = np.array(cell["few_shot"]).mean(0)
        there = returns >= cell["random"] + REACHED * (best - cell["random"])
        at = [f"{cell[unit][np.argmax(there)]:.0f}" for unit in ("updates", "seconds")]
        rows.append(
            (
                name,
                f"{1e3 * cell['seconds'][-1] / cell['updates'][-1] / len(last):.1f}",
                f"{last.mean():.1f}",
                f"{last.min():.1f} to {last.max():.1f}",
                *(at if there.any() else ("–", "–")),
            )
        )
    machine = report["machine"]
    note = (
        f"`{report['method']}` on `{report['family']}:quick`, {report['num_seeds']} seeds in one "
        f"program on {machine['cpu']}, {machine['cores']} cores. Time is per update of one seed; "
        "the end is the mean of the last three evaluations; the time to 90 % is that of all seeds "
        "together until their mean is so far from uniform actions to the best end of the table. "
        f"Command: `{report['command']}`"
    )
    return f"{tables.markdown(rows)}\n\n{note}\n"


def figure(report: dict) -> Figure:
    """Return over seconds of training: the mean of the seeds, and all between the extremes."""
    canvas = Figure(figsize=(8, 4), layout="constrained")
    axes = canvas.subplots()
    for name, cell in report["cells"].items():
        returns = np.array(cell["few_shot"])
        (line,) = axes.plot(cell["seconds"], returns.mean(0), label=name)
        low, high = returns.min(0), returns.max(0)
        axes.fill_between(cell["seconds"], low, high, color=line.get_color(), alpha=0.12, lw=0)
    axes.set(xscale="log", xlabel="seconds of training, all seeds", ylabel="few-shot return")
    axes.legend(frameon=False, fontsize=8)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default=next(iter(TABLES)), choices=TABLES)
    args = parser.parse_args()
    report, label = read(args.table), label_of(args.table)
    out = cells.RESULTS / label
    files.write_json(out.with_suffix(".json"), report)
    drawn = io.BytesIO()
    figure(report).savefig(drawn, format="png")
    files.write_atomic(out.with_suffix(".png"), drawn.getvalue())
    tables.insert(PAGE, label, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
