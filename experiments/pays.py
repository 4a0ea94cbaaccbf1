"""Does a good world model pay on a robot: acting, and with little data?

    metastar sweep experiments/sweeps/pays.py
    python experiments/pays.py

The second makes of the result files that there are a table in `docs/log.md`. Call both from the
root of the checkout.
"""

from pathlib import Path

import cells
from sweeps.pays import ARMS, LABEL, SEEDS, WITHIN, variant

SWEEP = Path(__file__).parent / "sweeps/pays.py"
PROTOCOLS = {"few_shot": "few-shot", "zero_shot": "zero-shot"}
WITHIN_TITLE = "few-shot, the four within the training's speeds"
OTHERS = "cross_task expert"  # the source of contexts by policies of other tasks
COMMANDS = "`metastar sweep experiments/sweeps/pays.py`, then `python experiments/pays.py`"


def table() -> list[tuple[str, ...]]:
    """One line of each finished arm, below those of the oracle and of uniform actions."""
    (_, oracle), *found = cells.cells_of(str(SWEEP))
    files: dict[str, list[Path]] = {}
    for cell, file in found:
        files.setdefault(cell.group, []).append(file)
    titles = ("", *PROTOCOLS.values(), "contexts by policies of other tasks", WITHIN_TITLE)
    found = cells.results_of(oracle)
    best = [run["protocols"]["few_shot"] for run in found]
    uniform = f"{found[0]['bounds']['random']:.1f}"
    rows = [titles, ("oracle", cells.interval(best), "–", "–", within(best))]
    rows += [("uniform actions", uniform, "–", "–", "–")]
    parts = set()
    for part, title in ARMS:
        own = files[f"metastar-{variant(part, title)}_cheetah_vel_quick"]
        found = [run for file in own if file.exists() for run in cells.results_of(file)]
        if not found:
            continue
        if part not in parts:
            rows += [(f"**{part}**", "", "", "", "")]
        parts.add(part)
        blocks = [[run["protocols"][name] for run in found] for name in PROTOCOLS]
        own = [block["by_context_source"].get(OTHERS) for block in blocks[0]]
        other = cells.interval(own) if all(own) else "–"
        returns = (cells.interval(block) for block in blocks)
        title += f", {len(found)} seeds" * (len(found) != len(SEEDS))
        rows.append((title, *returns, other, within(blocks[0])))
    return rows


def within(blocks: list[dict]) -> str:
    """Few-shot returns of the withheld tasks that lie between those of the training."""
    return cells.interval([{"per_task": [x["per_task"][k] for k in WITHIN]} for x in blocks])


def main() -> None:
    cells.log(LABEL, table(), COMMANDS)


if __name__ == "__main__":
    main()
