"""Zero-shot with and without a purpose on Point-Robot-Sparse: the table of `docs/results.md`.

    metastar sweep experiments/sweeps/exploring.py
    python experiments/exploring.py

The second reads the result file of the first, or the `metastar_<seed>.json` of before there were
sweeps, and writes the table.
"""

from pathlib import Path

import cells
import numpy as np
from sweeps.exploring import LABEL, STRATEGIES

from metastar.ops.statistics import seed_task_interval
from metastar.tools.report import tables

PAGE = cells.DOCS / "results.md"
SWEEP = Path(__file__).parent / "sweeps/exploring.py"
ROWS = {
    "few-shot, windows with reward": ("few_shot", "informative"),
    "zero-shot, plain": ("zero_shot",),
    **{f"zero-shot, exploring: {name}": (f"explored_{name}",) for name in STRATEGIES},
}


def table() -> str:
    """The table, from the result files alone."""
    results = [run["results"] for runs in cells.found_by(str(SWEEP)).values() for run in runs]
    if not results:
        files = sorted((cells.RESULTS / LABEL).glob("metastar_[0-9].json"))
        results = [cells.read(file.parent, file.name) for file in files]
    rows = [("return, mean over tasks and seeds", "mean", "95 % interval", "by seed", "of optimum")]
    for name, path in ROWS.items():
        blocks = [result["protocols"] for result in results]
        for key in path:
            blocks = [block.get(key) for block in blocks]
        if None in blocks:
            continue  # a strategy that the committed runs were not evaluated with
        scores = np.array([block["per_task"] for block in blocks], float)
        low, high = seed_task_interval(scores)
        seeds = ", ".join(f"{mean:.1f}" for mean in scores.mean(1))
        share = np.mean([block["of_optimum"] for block in blocks])
        row = (f"{scores.mean():.1f}", f"{low:.1f} to {high:.1f}", seeds, f"{100 * share:.1f} %")
        rows.append((name, *row))
    return tables.markdown(rows) + "\n"


def main() -> None:
    tables.insert(PAGE, LABEL, table())
    print(table())


if __name__ == "__main__":
    main()
