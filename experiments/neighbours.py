"""All systems on the same data, with bounds: one table of each family.

    metastar sweep experiments/sweeps/neighbours.py:point_robot_sparse
    python experiments/neighbours.py --family=point_robot_sparse

The second makes of the result files that there are, whether all cells have ended or not, and of the
benchmark of updates a table in `docs/systems.md`; what `metastar compare` makes of them goes to
`compare.md` and `compare.png` beside the files. Call both from the root of the checkout.
"""

import argparse
from pathlib import Path

import cells
import numpy as np
from sweeps.neighbours import FAMILIES, TITLES, label_of

from metastar import files
from metastar.data.store import OOD
from metastar.evaluation import summaries
from metastar.tools.report import codes, tables
from metastar.tools.report.groups import PARTS
from metastar.tools.sweep.grid import Cell

SWEEP = Path(__file__).parent / "sweeps/neighbours.py"
PAGE = cells.DOCS / "systems.md"
BENCHMARKS = cells.DOCS.parent / "benchmarks/results"
NAMES = TITLES | {
    "oracle": "oracle, told the task",
    "bc": "cloning under a code",
    "task_blind": "task-blind agent",
    "metastar": "MetaSTAR",
    "spc": "SPC",
    "meta_dt": "Meta-DT",
    "corro": "CORRO",
}
HEAD = (
    *("system", "few-shot", "gap closed", "windows with reward", "cross-task contexts"),
    *("zero-shot", "moderate OOD, few-shot", "extreme OOD, few-shot"),
    *("other protocols", "task R²", "probe", "chance", "ratio"),
    *("updates/s", "parameters", "seconds"),
)
USUAL = "few_shot", "zero_shot"
MEASURES = "task R²", "probe", "chance", "ratio"
NONE = "–"


def finished(family: str) -> list[tuple[Cell, Path]]:
    """The cells that have a result file."""
    return [found for found in cells.cells_of(f"{SWEEP}:{family}") if found[1].exists()]


def name_of(cell: Cell) -> str:
    """The recipe of a cell, with its variant behind a hyphen."""
    return cell.name.split(f"_{cell.cfg.family}")[0]


def table(family: str) -> list[tuple[str, ...]]:
    """One line of each finished cell, without the columns that none of them fills."""
    speeds, rows, best = update_speeds(family), [HEAD], oracle(family)
    for cell, file in finished(family):
        found, name = cells.cell_files.read(file)["runs"], name_of(cell)
        results = [run["results"] for run in found]
        few, zero = ([r["protocols"].get(n) for r in results] for n in USUAL)
        ood = [[r.get(p, {}).get("protocols", {}).get("few_shot") for r in results] for p in OOD]
        rest = [*parts_of(few), zero, *ood]
        measures = codes.cells([run["audit"] for run in found if run.get("audit")])
        rows.append(
            (
                cell.cfg.preset if "-" in name else NAMES[name],
                cells.interval(few),
                gap_closed(results, best),
                *(NONE if None in x else cells.interval(x) for x in rest),
                "; ".join(others(results)) or NONE,
                *(measures[column] for column in MEASURES),
                *speed_of(speeds.get(f"{name}.py"), results[0]["updates"]),
            )
        )
    kept = [any(row[i] != NONE for row in rows[1:]) for i in range(len(HEAD))]
    return [tuple(x for x, keep in zip(row, kept) if keep) for row in rows]


def oracle(family: str) -> float | None:
    """Its mean few-shot return, if its cell has ended."""
    for cell, file in finished(family):
        if name_of(cell) == "oracle":
            return mean_of(cells.results_of(file))
    return None


def mean_of(results: list[dict]) -> float:
    """The mean few-shot return over seeds."""
    return float(np.mean([x["protocols"]["few_shot"]["mean"] for x in results]))


def gap_closed(results: list[dict], best: float | None) -> str:
    """How much of the way from uniform actions to the oracle a system goes, few-shot."""
    bounds = {"random": results[0]["bounds"]["random"], "oracle": best}
    found = summaries.gap_closed({"mean": mean_of(results)}, bounds)
    return NONE if best is None else f"{found['gap_closed']:.0%}"


def parts_of(blocks: list[dict]) -> list[list[dict | None]]:
    """The blocks of some contexts of a protocol, as `metastar compare` has them."""
    return [[part_of(block, path) for block in blocks] for path in PARTS.values()]


def part_of(block: dict | None, path: tuple[str, ...]) -> dict | None:
    """What is at the end of a path; None where it breaks off."""
    for key in path:
        block = block.get(key) if block else None
    return block


def others(results: list[dict]) -> list[str]:
    """What a system returns under the protocols that it has beside the usual two."""
    blocks = {name: [r["protocols"][name] for r in results] for name in results[0]["protocols"]}
    return [f"{x[0]['title']} {cells.interval(x)}" for n, x in blocks.items() if n not in USUAL]


def update_speeds(family: str) -> dict[str, dict]:
    """What `metastar bench update` found of each recipe, side by side."""
    file = BENCHMARKS / f"systems_metastar_{family.replace('_', '-')}_quick_cpu.json"
    if not file.exists():
        return {}
    found = files.read_json(file, "run experiments/benchmarks.py again")["cases"]
    return {Path(source.split(":")[0]).name: case for source, case in found.items()}


def speed_of(case: dict | None, updates: int) -> tuple[str, str, str]:
    """Updates per second, parameters, and the seconds of all updates at that speed."""
    if case is None:
        return NONE, NONE, NONE
    speed = case["per_second"]
    return f"{speed:.0f}", f"{case['parameters']:,}", f"{updates / speed:.0f}"


def model_error(family: str) -> str:
    """The open-loop error of MetaSTAR's world model under the right code, by its audits."""
    for cell, file in finished(family):
        audits = [run["audit"] for run in cells.cell_files.read(file)["runs"]]
        if name_of(cell) == "metastar" and all(audits):
            found = [audit["open_loop"]["test"] for audit in audits]
            after = {
                (part, steps): np.mean([x[part]["right"][steps - 1] for x in found])
                for part in ("obs", "reward")
                for steps in (1, 8)
            }
            return (
                "MetaSTAR's world model on held-out tasks, in standard deviations: observations "
                f"{after['obs', 1]:.2f} after one step and {after['obs', 8]:.2f} after eight, "
                f"rewards {after['reward', 1]:.2f} and {after['reward', 8]:.2f}."
            )
    return ""


def page(family: str) -> str:
    """The table of all that there is; also writes the comparison beside the files."""
    found, label = [file for _, file in finished(family)], label_of(family)
    cells.compared(found, cells.RESULTS / label)
    bounds = cells.results_of(found[0])[0]["bounds"]
    known = {"uniform actions": "random", "best behaviour": "behavior_best", "optimum": "optimum"}
    known = {title: bounds[name] for title, name in known.items() if bounds[name] is not None}
    return (
        f"{tables.markdown(table(family))}\n\n"
        f"Few-shot bounds: {', '.join(f'{title} {x:.1f}' for title, x in known.items())}. "
        f"{model_error(family)}\n\n"
        f"Commands: `metastar sweep experiments/sweeps/neighbours.py:{family}`, then "
        f"`python experiments/neighbours.py --family={family}`; files: "
        f"`experiments/results/{label}/`.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=FAMILIES[0], choices=FAMILIES)
    args = parser.parse_args()
    text = page(args.family)
    tables.insert(PAGE, label_of(args.family), text)
    print(text)


if __name__ == "__main__":
    main()
