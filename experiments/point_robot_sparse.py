"""Makes the results table of Point-Robot-Sparse in the README: MetaSTAR and its oracle, by seed.

    metastar sweep experiments/sweeps/point_robot_sparse.py
    python experiments/point_robot_sparse.py

The second reads the result files of the first, writes `summary.json` beside them and its table into
the README and `docs/results.md`. Averages are over seeds; intervals are 95 % by bootstrap over
seeds, stratified over tasks. `--argument` is what follows the sweep file's name; only that of
`quick` is written into the pages.
"""

import argparse

import cells
import numpy as np
from sweeps.point_robot_sparse import label_of

from metastar import files
from metastar.ops import statistics
from metastar.tools.report import tables
from metastar.tools.sweep import cell as cell_files

SWEEP = "experiments/sweeps/point_robot_sparse.py"


def results_of(source: str) -> dict[str, list[dict]]:
    """Results of every seed by method, from the result files of a sweep."""
    found: dict[str, list[dict]] = {}
    for cell, file in cells.cells_of(source):
        runs = [run["results"] for run in cell_files.read(file)["runs"]]
        found.setdefault(cell.cfg.method, []).extend(runs)
    return found


def per_task(results: list[dict], *path: str) -> np.ndarray:
    """Per-task means [S, N] of one protocol's block of every seed's results; None becomes NaN."""
    results = [r["protocols"] for r in results]
    for name in path:
        results = [r[name] for r in results]
    return np.array([r["per_task"] for r in results], float)


def summarise(results: list[dict], *path: str) -> dict:
    """Mean over seeds and tasks, its interval, and the spread of the seeds' means."""
    scores = per_task(results, *path)
    strata = [column[np.isfinite(column)] for column in scores.T]
    strata = [s for s in strata if len(s)]
    by_seed = np.nanmean(scores, 1)
    return {
        "mean": float(statistics.mean(strata)),
        "ci95": list(statistics.bootstrap_interval(strata)),
        "seed_std": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
        "by_seed": by_seed.tolist(),
    }


def blocks(results: list[dict]) -> dict:
    kind = "by_context_source"
    sources = results[0]["protocols"]["few_shot"][kind]
    rows = {
        "few-shot, windows with reward": ("few_shot", "informative"),
        "few-shot, windows without reward": ("few_shot", "uninformative"),
        "few-shot, uniform windows": ("few_shot",),
        **{f"few-shot, {name} windows": ("few_shot", kind, name) for name in sources},
        "zero-shot (episode 2)": ("zero_shot",),
        **{
            f"zero-shot, exploring: {name.removeprefix('explored_')}": (name,)
            for name in results[0]["protocols"]
            if name.startswith("explored_")
        },
    }
    found = {name: summarise(results, *path) for name, path in rows.items()}
    of_train = summarise([r["train"] for r in results], "few_shot", "informative")
    return {**found, "few-shot on training tasks, windows with reward": of_train}


def table(summary: dict) -> str:
    lines = [
        "| return, mean over tasks and seeds | MetaSTAR | 95 % interval | spread of seeds (std) |",
        "|---|---|---|---|",
    ]
    for name, s in summary["metastar"].items():
        spread = "–" if s["seed_std"] is None else f"{s['seed_std']:.1f}"
        low, high = s["ci95"]
        lines.append(f"| {name} | **{s['mean']:.1f}** | {low:.1f} to {high:.1f} | {spread} |")
    for name, value in summary["bounds"].items():
        lines.append(f"| *bound: {name}* | {value:.1f} | | |")
    share = summary["informative_share"]
    fraction = summary["informative_of_optimum"]
    lines += [
        "",
        f"{100 * share:.0f} % of uniform windows hold a reward. From these the agent reaches "
        f"{100 * fraction:.1f} % of the analytic optimum on the same starts and goals. "
        f"{summary['num_seeds']} seeds, {summary['num_tasks']} held-out tasks; "
        f"{min(summary['minutes']):.1f} to {max(summary['minutes']):.1f} minutes of training per "
        f"seed on {summary['device']}. Command: `{summary['command']}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--argument", default="quick", metavar="PRESET[,WITHHELD]")
    args = parser.parse_args()

    source = f"{SWEEP}:{args.argument}"
    out = cells.RESULTS / label_of(*args.argument.split(","))
    results = results_of(str(cells.DOCS.parent / source))
    ours = results["metastar"]
    informative = [r["protocols"]["few_shot"]["informative"] for r in ours]
    summary = {
        "command": f"metastar sweep {source}",
        "commit": ours[0]["commit"],
        "versions": ours[0]["versions"],
        "device": ours[0]["device"],
        "num_seeds": len(ours),
        "num_tasks": len(ours[0]["tasks"]["ids"]),
        "minutes": [r["wall_seconds"] / 60 for r in ours],
        "metastar": blocks(ours),
        "informative_share": float(np.mean([i["share"] for i in informative])),
        "informative_of_optimum": float(np.mean([i["of_optimum"] for i in informative])),
        "bounds": {
            "uniform random actions": ours[0]["bounds"]["random"],
            "best behaviour stage": ours[0]["bounds"]["behavior_best"],
            **{
                f"oracle, {title}": float(
                    np.mean([r["protocols"][name]["mean"] for r in results["oracle"]])
                )
                for name, title in (("few_shot", "few-shot"), ("zero_shot", "zero-shot"))
            },
            "analytic optimum": ours[0]["bounds"]["optimum"],
        },
    }
    files.write_json(out / "summary.json", summary)
    if args.argument == "quick":
        for page in (cells.DOCS.parent / "README.md", cells.DOCS / "results.md"):
            tables.insert(page, "results", table(summary))
    print(table(summary))


if __name__ == "__main__":
    main()
