"""FOCAL beside MetaSTAR on the same data: returns and codes, under two agents.

    metastar sweep experiments/sweeps/focal.py:point_robot_sparse
    python experiments/focal.py --family=point_robot_sparse

The second makes of the result files that there are, whether all cells have ended or not, what
`metastar compare` makes: `compare.md` and `compare.png` beside them, and a table in
`docs/results.md`. Call both from the root of the checkout.
"""

import argparse
from pathlib import Path

import cells
from sweeps.focal import FAMILIES

from metastar.tools.report import tables

SWEEP = Path(__file__).parent / "sweeps/focal.py"
# Folders with `results.json` and `audit.json`, <name>_<seed>, of before there were sweeps.
EARLIER = {
    "metastar": "metastar",
    "focal-iql": "focal_iql",
    "focal-conservative": "focal_conservative",
}


def sources(family: str) -> list[Path]:
    """What is to be compared: one result file of each cell, or its folder of earlier."""
    found = []
    for cell, file in cells.cells_of(f"{SWEEP}:{family}"):
        earlier = file.parent / f"{EARLIER[cell.name.split('_')[0]]}_{cell.cfg.seed}"
        found += [path for path in (file, earlier) if path.exists()][:1]
    return found


def page(family: str) -> str:
    """The tables of all that there is; also writes the comparison beside it."""
    label = f"focal_{family}"
    return (
        f"{cells.compared(sources(family), cells.RESULTS / label)}\n\n"
        f"Commands: `metastar sweep experiments/sweeps/focal.py:{family}`, then "
        f"`python experiments/focal.py --family={family}`; files: `experiments/results/{label}/`.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=FAMILIES[0], choices=FAMILIES)
    args = parser.parse_args()
    text = page(args.family)
    tables.insert(cells.DOCS / "results.md", f"focal_{args.family}", text)
    print(text)


if __name__ == "__main__":
    main()
