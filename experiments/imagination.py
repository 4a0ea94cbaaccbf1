"""Does imagination pay? Model error, overestimation and return by what is imagined, and how.

    metastar sweep experiments/sweeps/invariance.py:point_robot
    metastar sweep experiments/sweeps/imagination.py
    python experiments/imagination.py

The last reads the result files of the second, with the open-loop errors that their audits have, and
writes the table to `docs/results.md`, unless `--withheld` names what follows the sweep file.
"""

import argparse
from pathlib import Path

import cells
from sweeps.imagination import BATCH, CELLS, label_of, variant

from metastar.tools.report import tables

PAGE = cells.DOCS / "results.md"
SWEEP = Path(__file__).parent / "sweeps/imagination.py"
HORIZONS = (1, 4, 8)  # of the open-loop errors that the table shows
COLUMNS = (
    "cell",
    "seeds",
    "real share",
    *(f"state error after {h}" for h in HORIZONS),
    "reward error after 1",
    "expected value",
    "overestimation",
    "few-shot",
    "zero-shot",
    "minutes, all seeds",
)


def row(name: str, results: list[dict]) -> tuple[str, ...]:
    fields = CELLS[name]
    imagined = fields["imagine.horizon"] * fields["imagine.num_rollouts"]
    errors = [result["open_loop"] for result in results]
    values = [result["protocols"]["few_shot"]["value"] for result in results]
    return (
        name,
        str(len(results)),
        f"{1 - imagined / BATCH:.2f}",
        *(cells.spread([e["obs"]["right"][h - 1] for e in errors]) for h in HORIZONS),
        cells.spread([e["reward"]["right"][0] for e in errors]),
        cells.spread([value["value"] for value in values], "{:.2f}"),
        cells.interval(values, form="{:.2f}"),
        cells.interval(results, "protocols", "few_shot"),
        cells.interval(results, "protocols", "zero_shot"),
        f"{max(result['wall_seconds'] for result in results) / 60:.1f}",
    )


def found_in(withheld: str) -> dict[str, list[dict]]:
    """Results of every seed by cell, open-loop errors on held-out tasks added.

    Of a sweep's result files, or else of `<cell>_seed<k>.json` of before there were sweeps.
    """
    out = cells.RESULTS / label_of("imagination", withheld)
    found = cells.found_by(f"{SWEEP}:{withheld}" if withheld else str(SWEEP))
    results = {}
    for cell in CELLS:
        runs = found.get(f"metastar-{variant(cell)}_point_robot_quick", [])
        results[cell] = [
            {**run["results"], "open_loop": run["audit"]["open_loop"]["test"]} for run in runs
        ]
        files = sorted(out.glob(f"{variant(cell)}_seed*.json")) if not runs else []
        results[cell] += [cells.read(out, file.name) for file in files]
    return {cell: found for cell, found in results.items() if found}


def table(withheld: str = "") -> str:
    """The table of one sweep, from its result files alone."""
    rows = [row(cell, results) for cell, results in found_in(withheld).items()]
    return tables.markdown([COLUMNS, *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--withheld", default="", metavar="K", help="training tasks")
    withheld = parser.parse_args().withheld
    if not withheld:
        tables.insert(PAGE, label_of("imagination", withheld), table())
    print(table(withheld))


if __name__ == "__main__":
    main()
