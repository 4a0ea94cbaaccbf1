"""All systems on the same data, with bounds: returns and codes.

    metastar sweep experiments/sweeps/neighbours.py:point_robot_sparse
    python experiments/neighbours.py --family=point_robot_sparse

The second makes of the result files that there are, whether all cells have ended or not, what
`metastar compare` makes: `compare.md` and `compare.png` beside them, and a table in
`docs/results.md`. Call both from the root of the checkout.
"""

import argparse
from pathlib import Path

import cells
from sweeps.neighbours import FAMILIES, label_of

from metastar.tools.report import tables

SWEEP = Path(__file__).parent / "sweeps/neighbours.py"


def page(family: str) -> str:
    """The tables of all that there is; also writes the comparison beside it."""
    found = [file for _, file in cells.cells_of(f"{SWEEP}:{family}") if file.exists()]
    label = label_of(family)
    return (
        f"{cells.compared(found, cells.RESULTS / label)}\n\n"
        f"Commands: `metastar sweep experiments/sweeps/neighbours.py:{family}`, then "
        f"`python experiments/neighbours.py --family={family}`; files: "
        f"`experiments/results/{label}/`.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=FAMILIES[0], choices=FAMILIES)
    args = parser.parse_args()
    text = page(args.family)
    tables.insert(cells.DOCS / "results.md", label_of(args.family), text)
    print(text)


if __name__ == "__main__":
    main()
