"""Other families with the recipe that they had, and with what makes Cheetah-Vel's model predict.

    metastar sweep experiments/sweeps/recipes.py:cheetah_vel_sparse
    python experiments/recipes.py --family=cheetah_vel_sparse

The second makes of the result files that there are a table in `docs/log.md`. Call both from the
root of the checkout.
"""

import argparse
from pathlib import Path

import cells
from hour import RETURNS, rows_of
from sweeps.recipes import FAMILIES, arms_of, label_of

SWEEP = Path(__file__).parent / "sweeps/recipes.py"
SHOWN = {title: RETURNS[title] for title in ("few-shot", "training tasks", "zero-shot")}


def table(family: str) -> list[tuple[str, ...]]:
    """One line of each finished arm, below those of the oracle and uniform actions."""
    return rows_of(f"{SWEEP}:{family}", arms_of(family), SHOWN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=next(iter(FAMILIES)), choices=FAMILIES)
    family = parser.parse_args().family
    commands = (
        f"`metastar sweep experiments/sweeps/recipes.py:{family}`, then `python "
        f"experiments/recipes.py --family={family}`"
    )
    cells.log(label_of(family), table(family), commands)


if __name__ == "__main__":
    main()
