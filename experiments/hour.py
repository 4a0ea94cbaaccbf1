"""What the hour of Cheetah-Vel's default preset is spent on best, on withheld tasks.

    metastar sweep experiments/sweeps/hour.py
    python experiments/hour.py

The second makes of the result files that there are a table in `docs/log.md`. Call both from the
root of the checkout.
"""

from pathlib import Path

import cells
import numpy as np
from sweeps.hour import ARMS, LABEL
from sweeps.pays import WITHIN

from metastar.tools.report import tables
from metastar.tools.sweep import cell as cell_files

SWEEP = Path(__file__).parent / "sweeps/hour.py"
OTHERS = "cross_task expert"  # the source of contexts by policies of other tasks
SHOWN = (1, 8)  # imagined steps
COLUMNS = (
    "",
    "few-shot",
    "within",
    "training tasks",
    "zero-shot",
    "contexts by policies of other tasks",
    "observations",
    "reward",
    "ratio",
    "m/s",
    "task R²",
    "source",
    "minutes",
)
COMMANDS = "`metastar sweep experiments/sweeps/hour.py`, then `python experiments/hour.py`"


def table() -> list[tuple[str, ...]]:
    """One line of each finished arm, below those of the oracle and uniform actions."""
    oracle, *arms = cells.cells_of(str(SWEEP))
    rows = [COLUMNS]
    if oracle[1].exists():
        found = cells.results_of(oracle[1])
        best, rest = few_shot(found[0]), ("–",) * (len(COLUMNS) - 2)
        minutes = f"{found[0]['wall_seconds'] / 60:.0f}"
        rows += [("oracle", *best, *rest[len(best) :], minutes)]
        rows += [("uniform actions", f"{found[0]['bounds']['random']:.1f}", *rest)]
    for title, (_, file) in zip(ARMS, arms, strict=True):
        if file.exists():
            (run,) = cell_files.read(file)["runs"]
            rows.append((title, *line(run["results"], run["audit"])))
    return rows


def line(results: dict, audit: dict) -> tuple[str, ...]:
    """The cells of an arm's only run."""
    error, told = audit["open_loop"]["test"], audit["splits"]["test"]["trained"]
    speed = told["task_of_training"]["linear"]
    others = results["protocols"]["few_shot"]["by_context_source"][OTHERS]["mean"]

    def steps(part: str) -> str:
        return " / ".join(f"{error[part]['right'][step - 1]:.2f}" for step in SHOWN)

    return (
        *few_shot(results),
        f"{results['protocols']['zero_shot']['mean']:.1f}",
        f"{others:.1f}",
        steps("obs"),
        steps("reward"),
        f"{told['ratio']['ratio']:.4f}",
        f"{speed['rmse']:.2f}",
        f"{speed['r2']:.3f}",
        f"{told['identity']['linear']['accuracy']:.0%}",
        f"{results['wall_seconds'] / 60:.0f}",
    )


def few_shot(results: dict) -> tuple[str, str, str]:
    """Of all withheld tasks, of those within the training's speeds, and of training tasks."""
    own = results["protocols"]["few_shot"]
    within = np.mean([own["per_task"][k] for k in WITHIN])
    train = results["train"]["protocols"]["few_shot"]["mean"]
    return tuple(f"{x:.1f}" for x in (own["mean"], within, train))


def main() -> None:
    files = f"experiments/results/{LABEL}/"
    page = f"{tables.markdown(table())}\n\nCommands: {COMMANDS}; files: `{files}`.\n"
    tables.insert(cells.DOCS / "log.md", LABEL, page)
    print(page)


if __name__ == "__main__":
    main()
