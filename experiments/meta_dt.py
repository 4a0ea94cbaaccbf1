"""Meta-DT taken apart, and what it returns after 0, 1, 3 and 10 own episodes, on withheld tasks.

    metastar sweep experiments/sweeps/meta_dt.py:point_robot_sparse
    python experiments/meta_dt.py --family=point_robot_sparse

The second makes of the result files that there are a table in `docs/systems.md`. Call both from the
root of the checkout.
"""

import argparse
from pathlib import Path

import cells
import numpy as np
from sweeps.meta_dt import FAMILIES, arms_of, label_of

from metastar.tools.report import tables

SWEEP = Path(__file__).parent / "sweeps/meta_dt.py"
PAGE = cells.DOCS / "systems.md"
SHOTS = 0, 1, 3, 10
OWN = "own_episodes_10"


def table(family: str) -> list[tuple[str, ...]]:
    """One line of each finished arm; shares are of the oracle's way from uniform actions."""
    (oracle, *arms), rows = cells.cells_of(f"{SWEEP}:{family}"), []
    best = np.mean([r["protocols"]["few_shot"]["mean"] for r in cells.results_of(oracle[1])])
    for title, (_, file) in zip(arms_of(family), arms, strict=True):
        if not file.exists():
            continue
        results = cells.results_of(file)
        low = results[0]["bounds"]["random"]
        after = np.array([r["protocols"][OWN]["by_episode"] for r in results])[:, SHOTS]
        shares = (after.mean(0) - low) / (best - low)
        few = cells.interval([r["protocols"]["few_shot"] for r in results])
        spread = [f"{x:.1f} ({share:.0%})" for x, share in zip(after.mean(0), shares)]
        rows.append((title, few, *spread))
    own = (f"after {num} own episode{'s' * (num != 1)}" for num in SHOTS)
    return [("", "few-shot, recorded", *own), *rows]


def page(family: str) -> str:
    """The table with its commands."""
    return (
        f"{tables.markdown(table(family))}\n\n"
        f"Commands: `metastar sweep experiments/sweeps/meta_dt.py:{family}`, then "
        f"`python experiments/meta_dt.py --family={family}`; files: "
        f"`experiments/results/{label_of(family)}/`.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=FAMILIES[0], choices=FAMILIES)
    args = parser.parse_args()
    tables.insert(PAGE, label_of(args.family), page(args.family))
    print(page(args.family))


if __name__ == "__main__":
    main()
