"""Other families with the recipe that they had, and with what makes Cheetah-Vel's model predict.

    metastar sweep experiments/sweeps/recipes.py:cheetah_vel_sparse
    python experiments/recipes.py --family=cheetah_vel_sparse

The second makes of the result files that there are a table in `docs/log.md`. Call both from the
root of the checkout.
"""

import argparse
from pathlib import Path

import cells
from hour import CODES, ERRORS, RETURNS, line, minutes, shown
from sweeps.recipes import FAMILIES, arms_of, label_of

from metastar.tools.report import tables
from metastar.tools.sweep import cell as cell_files

SWEEP = Path(__file__).parent / "sweeps/recipes.py"
SHOWN = {title: RETURNS[title] for title in ("few-shot", "training tasks", "zero-shot")}


def table(family: str) -> list[tuple[str, ...]]:
    """One line of each finished arm, below those of the oracle and uniform actions."""
    oracle, *arms = cells.cells_of(f"{SWEEP}:{family}")
    rows = [("", *SHOWN, *ERRORS, *CODES, "minutes")]
    if oracle[1].exists():
        found = cells.results_of(oracle[1])
        rest = ("–",) * (len(ERRORS) + len(CODES))
        returns = (shown(found, read) for read in SHOWN.values())
        uniform = f"{found[0]['bounds']['random']:.1f}"
        rows.append(("oracle", *returns, *rest, minutes(found)))
        rows.append(("uniform actions", uniform, *("–",) * (len(rows[0]) - 2)))
    for title, (_, file) in zip(arms_of(family), arms, strict=True):
        if file.exists():
            rows.append((title, *line(cell_files.read(file)["runs"], SHOWN)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=next(iter(FAMILIES)), choices=FAMILIES)
    family = parser.parse_args().family
    commands = (
        f"`metastar sweep experiments/sweeps/recipes.py:{family}`, then `python "
        f"experiments/recipes.py --family={family}`"
    )
    files = f"`experiments/results/{label_of(family)}/`"
    page = f"{tables.markdown(table(family))}\n\nCommands: {commands}; files: {files}.\n"
    tables.insert(cells.DOCS / "log.md", label_of(family), page)
    print(page)


if __name__ == "__main__":
    main()
