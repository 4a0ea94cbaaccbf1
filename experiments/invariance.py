"""What each term buys: invariance to behaviour, return and time. The ablation of `docs/results.md`.

    metastar sweep experiments/sweeps/invariance.py:point_robot
    python experiments/invariance.py --argument=point_robot

The second reads the result files of the first and writes two tables to `docs/results.md`, unless
training tasks were withheld. `--argument` is what follows the sweep file's name.
"""

import argparse
from pathlib import Path

import cells
import numpy as np
from sweeps.invariance import CELLS, parse, variant

from metastar.tools.report import tables

PAGE = cells.DOCS / "results.md"
SWEEP = Path(__file__).parent / "sweeps/invariance.py"


def mean_of(audits: list[dict], *path: str) -> np.ndarray:
    """One number of every seed's audit on held-out tasks and the sources of the training."""
    for name in ("splits", "test", "trained", *path):
        audits = [audit[name] for audit in audits]
    return np.array(audits, float)


COLUMNS = (
    "cell",
    "seeds",
    "ratio",
    "energy distance",
    "tasks that differ (control)",
    "which source? (upper bound, chance)",
    "task R² (fitted on training tasks)",
    "few-shot",
    "zero-shot",
    "exploring",
    "minutes",
)
KINDS = ("few_shot", "zero_shot")
SPLITS = {"test_id": (), "moderate OOD": ("ood_moderate",), "extreme OOD": ("ood_extreme",)}
COSTS = (
    "cell",
    *(f"{kind}, {split}" for kind in ("few-shot", "zero-shot") for split in SPLITS),
    "success, few-shot",
    "success, zero-shot",
    "gap lost from best to worst source, points",
    "last five evaluations, mean",
    "their drop",
)


def row(cell: str, results: list[dict], audits: list[dict]) -> tuple[str, ...]:
    differing = mean_of(audits, "energy", "pairs", "share_differing").mean()
    control = mean_of(audits, "energy", "control", "share_differing").mean()
    probe = ("identity", "linear")
    accuracy, upper = (mean_of(audits, *probe, name).mean() for name in ("accuracy", "upper95"))
    chance = mean_of(audits, "identity", "chance").mean()
    return (
        cell,
        str(len(results)),
        cells.spread(mean_of(audits, "ratio", "ratio")),
        cells.spread(mean_of(audits, "energy", "pairs", "relative")),
        f"{100 * differing:.0f} % ({100 * control:.0f} %)",
        f"{100 * accuracy:.0f} % ({100 * upper:.0f} %, {100 * chance:.0f} %)",
        cells.spread(mean_of(audits, "task_of_training", "linear", "r2")),
        cells.interval(results, "protocols", "few_shot"),
        cells.interval(results, "protocols", "zero_shot"),
        cells.interval(results, "protocols", "explored_posterior"),
        f"{np.mean([r['wall_seconds'] for r in results]) / 60:.1f}",
    )


def costs(cell: str, results: list[dict], audits: list[dict], bound: float) -> tuple[str, ...]:
    """What a user feels of one cell: returns on every kind of tasks, and what changes them."""
    few, zero = (
        [cells.interval(results, *path, "protocols", kind) for path in SPLITS.values()]
        for kind in KINDS
    )
    drop = [drop_of(audit, bound) for audit in audits]
    last = [result["stability"]["few_shot"] for result in results]
    return (
        cell,
        *few,
        *zero,
        *(
            cells.spread([r["protocols"][kind]["success"] for r in results], "{:.2f}")
            for kind in KINDS
        ),
        cells.spread(100 * np.array(drop), "{:.0f}"),
        *(cells.spread([block[name] for block in last], "{:.1f}") for name in ("mean", "drop")),
    )


def drop_of(audit: dict, bound: float) -> float:
    """Return lost from the best source of the training to the worst, as a share of the gap.

    The gap lies between uniform actions and `bound`, one for all rows of a table, whatever oracle
    their audits had.
    """
    source = audit["cost"]["by_source"]
    trained = audit["splits"]["test"]["trained"]["energy"]["sources"]
    returns = [source[name]["return"] for name in trained if name in source]
    return (max(returns) - min(returns)) / (bound - audit["cost"]["random"])


def found_in(argument: str) -> tuple[dict[str, list[tuple[dict, dict]]], list[float]]:
    """Results and audit of every seed by cell, and the returns of the oracle, as far as there are.

    Of a sweep's result files, or else of `<cell>_seed<k>_results.json` and `_audit.json` of before
    there were sweeps, and `oracle_results.json`.
    """
    _, family, label = parse(argument)
    out, found = cells.RESULTS / label, cells.found_by(f"{SWEEP}:{argument}")
    pairs = {}
    for cell in CELLS:
        runs = found.get(f"metastar-{variant(cell)}_{family}_quick", [])
        pairs[cell] = [(run["results"], run["audit"]) for run in runs]
        for file in sorted(out.glob(f"{variant(cell)}_seed*_results.json")) if not runs else ():
            audit = file.name.replace("_results", "_audit")
            pairs[cell].append((cells.read(out, file.name), cells.read(out, audit)))
    oracles = [run["results"] for run in found.get(f"oracle_{family}_quick", [])]
    if not oracles and (out / "oracle_results.json").exists():
        oracles = [cells.read(out, "oracle_results.json")]
    returns = [oracle["protocols"]["few_shot"]["mean"] for oracle in oracles]
    return {cell: found for cell, found in pairs.items() if found}, returns


def table(argument: str) -> str:
    """The tables of one sweep, from its result files alone.

    The bound is the best oracle: the sweep's, and those that the rows had.
    """
    pairs, returns = found_in(argument)
    split = {cell: [list(part) for part in zip(*found)] for cell, found in pairs.items()}
    bounds = [result["bounds"]["oracle"] for results, _ in split.values() for result in results]
    bound = max(returns + bounds)
    rows = [COLUMNS, *(row(cell, *pair) for cell, pair in split.items())]
    cost = [COSTS, *(costs(cell, *pair, bound) for cell, pair in split.items())]
    return f"{tables.markdown(rows)}\n\n{tables.markdown(cost)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--argument", default="point_robot", metavar="FAMILY[,alike][,WITHHELD]")
    argument = parser.parse_args().argument
    label = parse(argument)[2]
    if "_validation" not in label:
        tables.insert(PAGE, label, table(argument))
    print(table(argument))


if __name__ == "__main__":
    main()
