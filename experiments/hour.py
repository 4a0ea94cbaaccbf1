"""What the minutes of Cheetah-Vel's presets are spent on best, on withheld tasks.

    metastar sweep experiments/sweeps/hour.py
    python experiments/hour.py

    metastar sweep experiments/sweeps/hour.py:quick
    python experiments/hour.py --preset=quick

The second of each makes of the result files that there are a table in `docs/log.md`. Call them from
the root of the checkout.
"""

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import cells
import numpy as np
from sweeps.hour import AGENTS, ARMS, label_of
from sweeps.pays import WITHIN

from metastar.tools.sweep import cell as cell_files

SWEEP = Path(__file__).parent / "sweeps/hour.py"
OTHERS = "cross_task expert"  # the source of contexts by policies of other tasks
SHOWN = (1, 8)  # imagined steps
RETURNS = {  # title: of a run's results
    "few-shot": lambda x: x["protocols"]["few_shot"]["mean"],
    "within": lambda x: np.mean([x["protocols"]["few_shot"]["per_task"][k] for k in WITHIN]),
    "training tasks": lambda x: x["train"]["protocols"]["few_shot"]["mean"],
    "zero-shot": lambda x: x["protocols"]["zero_shot"]["mean"],
    "contexts by policies of other tasks": lambda x: x["protocols"]["few_shot"][
        "by_context_source"
    ][OTHERS]["mean"],
}
CODES = {  # title: form, and where it stands in the audit's measures on the training's sources
    "ratio": ("{:.4f}", ("ratio", "ratio")),
    "off": ("{:.2f}", ("task_of_training", "linear", "rmse")),  # in the task's unit
    "task R²": ("{:.3f}", ("task_of_training", "linear", "r2")),
    "source": ("{:.0%}", ("identity", "linear", "accuracy")),
}
ERRORS = {"observations": "obs", "reward": "reward"}


def table(preset: str) -> list[tuple[str, ...]]:
    """One line of each finished arm, below those of the oracle and uniform actions."""
    return rows_of(f"{SWEEP}:{preset}", ARMS[preset] | AGENTS[preset], RETURNS)


def rows_of(source: str, titles: Iterable[str], returns_of: dict) -> list[tuple[str, ...]]:
    """The same of any sweep whose first cell is the oracle and whose others are arms."""
    oracle, *arms = cells.cells_of(source)
    rows = [("", *returns_of, *ERRORS, *CODES, "minutes")]
    if oracle[1].exists():
        found = cells.results_of(oracle[1])
        rest = ("–",) * (len(ERRORS) + len(CODES))
        returns = (shown(found, read) for read in returns_of.values())
        uniform = f"{found[0]['bounds']['random']:.1f}"
        rows.append(("oracle", *returns, *rest, minutes(found)))
        rows.append(("uniform actions", uniform, *("–",) * (len(rows[0]) - 2)))
    for title, (_, file) in zip(titles, arms, strict=True):
        if file.exists():
            rows.append((title, *line(cell_files.read(file)["runs"], returns_of)))
    return rows


def line(runs: list[dict], returns_of: dict) -> tuple[str, ...]:
    """The cells of an arm, which need not be audited."""
    found, audits = [run["results"] for run in runs], [run.get("audit") for run in runs]
    returns = [shown(found, read) for read in returns_of.values()]
    if None in audits:
        return (*returns, *("–",) * (len(ERRORS) + len(CODES)), minutes(found))
    seen = [cells.on_test_tasks(audit) for audit in audits]
    told = [x["trained"] for x in seen]

    def steps(part: str) -> str:
        mean = np.mean([x["open_loop"][part]["right"] for x in seen], 0)
        return " / ".join(f"{mean[step - 1]:.2f}" for step in SHOWN)

    return (
        *returns,
        *map(steps, ERRORS.values()),
        *(shown(told, partial(cells.at, path), form) for form, path in CODES.values()),
        minutes(found),
    )


def shown(found: list[dict], read, form: str = "{:.1f}") -> str:
    """A number, or the mean over runs with the least and the largest; – where one has none."""
    values = [read(x) for x in found]
    if len(values) > 1 or None in values:
        return cells.spread(values, form)
    return form.format(values[0])


def minutes(found: list[dict]) -> str:
    """Of a program, whose runs have one clock."""
    return f"{found[0]['wall_seconds'] / 60:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="", choices=tuple(ARMS))
    preset = parser.parse_args().preset
    colon = ":" * bool(preset)
    commands = (
        f"`metastar sweep experiments/sweeps/hour.py{colon}{preset}`, then `python "
        f"experiments/hour.py{' --preset=' * bool(preset)}{preset}`"
    )
    cells.log(label_of(preset), table(preset), commands)


if __name__ == "__main__":
    main()
