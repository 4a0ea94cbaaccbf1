"""Why codes of bags do not help zero-shot: contexts of other forms, on withheld tasks.

    metastar sweep experiments/sweeps/own_context.py
    python experiments/own_context.py

The second reads the result files of the first and the curves in its workdirs. It writes the zero-
shot curve of every seed to `experiments/results/own_context_point_robot_sparse_validation6.json`, a
figure beside it, and a table to `docs/log.md`. Call both from the root of the checkout.
"""

import io
from pathlib import Path

import cells
import numpy as np
from matplotlib.figure import Figure
from sweeps.own_context import FAMILY, LABEL, METHODS, variant

from metastar import files
from metastar.tools.report import tables
from metastar.training import runs

SWEEP = Path(__file__).parent / "sweeps/own_context.py"
OUT = cells.RESULTS / f"{LABEL}.json"
EVALUATIONS = ("few_shot", "zero_shot")


def read() -> dict:
    """The runs of every finished cell, and their zero-shot curves as far as workdirs are there."""
    kept = files.read_json(OUT, "make it again") if OUT.exists() else {"curves": {}}
    curves = dict(kept["curves"])
    for cell, file in cells.cells_of(str(SWEEP)):
        folders = [run.workdir for run in runs.expand(cell.cfg, cell.workdir)]
        if file.exists() and all(folder.exists() for folder in folders):
            curves[cell.name] = [cells.curve(folder, "zero_shot") for folder in folders]
    return {"command": "metastar sweep experiments/sweeps/own_context.py", "curves": curves}


def name_of(method: str, context: str = "") -> str:
    """The name of a cell."""
    arm = f"-{variant(context)}" if context else ""
    return f"{method}{arm}_{FAMILY}_quick_0-2"


def table() -> str:
    """One line per cell: its final evaluation on the withheld tasks."""
    rows = [("method", "what it encodes", "few-shot", "zero-shot", "zero-shot, training tasks")]
    named = {name_of("task_blind"): ("task-blind", "nothing")}
    for method, (title, contexts) in METHODS.items():
        named |= {name_of(method, context): (title, context) for context in contexts}
    found = {cell.name: file for cell, file in cells.cells_of(str(SWEEP))}
    for name, titles in named.items():
        if not found[name].exists():
            continue
        results = [run["results"] for run in cells.cell_files.read(found[name])["runs"]]
        own, train = ([r["protocols"] for r in x] for x in (results, [r["train"] for r in results]))
        scores = [cells.interval(own, protocol) for protocol in EVALUATIONS]
        rows.append((*titles, *scores, cells.interval(train, "zero_shot")))
    return tables.markdown(rows)


def figure(report: dict) -> Figure:
    """Zero-shot return over updates: the mean of the seeds, and all between the extremes."""
    canvas = Figure(figsize=(9, 4), layout="constrained")
    grid = canvas.subplots(1, len(METHODS), sharey=True)
    for axes, (method, (title, contexts)) in zip(grid, METHODS.items()):
        lines = {"task-blind": name_of("task_blind")}
        lines |= {context: name_of(method, context) for context in contexts}
        for label, name in lines.items():
            if name not in report["curves"]:
                continue
            updates = report["curves"][name][0][0]
            returns = np.array([returns for _, returns in report["curves"][name]])
            (line,) = axes.plot(updates, returns.mean(0), label=label)
            low, high = returns.min(0), returns.max(0)
            axes.fill_between(updates, low, high, color=line.get_color(), alpha=0.12, lw=0)
        axes.set(title=title, xlabel="updates", ylabel="zero-shot return")
        axes.legend(frameon=False, fontsize=8)
    return canvas


def main() -> None:
    report = read()
    files.write_json(OUT, report)
    drawn = io.BytesIO()
    figure(report).savefig(drawn, format="png")
    files.write_atomic(OUT.with_suffix(".png"), drawn.getvalue())
    text = (
        f"{table()}\n\n![zero-shot curves](../experiments/results/{LABEL}.png)\n\n"
        f"Commands: `{report['command']}`, then `python experiments/own_context.py`; files: "
        f"`experiments/results/{LABEL}/`.\n"
    )
    tables.insert(cells.DOCS / "log.md", LABEL, text)
    print(text)


if __name__ == "__main__":
    main()
