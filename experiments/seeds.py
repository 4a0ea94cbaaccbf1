"""Trains methods on a family over seeds and compares them: the tables of `docs/results.md`.

    python experiments/seeds.py --family cheetah_vel --methods metastar bc --seeds 0 1 2

The oracle of each seed is trained first and is the bound of the others. Every run that is not
complete yet resumes where it stopped. Copies their `results.json` to
`experiments/results/<family>_<preset>/`, writes the tables of `metastar compare` and the returns
by source of the context to `docs/results.md`, and a figure beside the copies. With `--validation=K`
the last K training tasks take the place of the test tasks: this is how settings are chosen; its
files go to a folder of their own and to no page.
"""

import argparse
import os
import shutil
from pathlib import Path

import cells
import numpy as np

from metastar import files
from metastar.ops.statistics import seed_task_interval
from metastar.tools.report import compare, groups, tables

PAGE = cells.DOCS / "results.md"


def text(label: str, command: str) -> str:
    """The tables of one folder of results, from its files alone."""
    folder = cells.RESULTS / label
    found = groups.read([os.path.relpath(file) for file in sorted(folder.glob("*_seed*.json"))])
    found = sorted(found, key=lambda group: group.method != "metastar")
    scores = groups.measure(found)
    runs = [run.results for group in found for run in group.runs]
    minutes = [run["wall_seconds"] / 60 for run in runs]
    lines = [
        tables.markdown(compare.table(found, scores)),
        "",
        f"Difference to {found[0].name}, paired by task:",
        "",
        tables.markdown(compare.differences(found, scores)),
        "",
        "Few-shot return by the source of the context:",
        "",
        tables.markdown(by_source(found)),
        "",
        f"{len(found[0].runs)} seeds, {len(runs[0]['tasks']['ids'])} test tasks; "
        f"{min(minutes):.1f} to {max(minutes):.1f} minutes of training a run on "
        f"{runs[0]['device']}. Command: `{command}`",
    ]
    return "\n".join(lines) + "\n"


def by_source(found: list[groups.Group]) -> list[tuple[str, ...]]:
    """Rows of text cells: mean few-shot return of each group with its interval, by source."""
    names = [group.name for group in found]
    blocks = [
        [run.results["protocols"]["few_shot"]["by_context_source"] for run in group.runs]
        for group in found
    ]
    rows = [("context from", *names)]
    for source in blocks[0][0]:
        line = []
        for of_group in blocks:
            scores = np.array([block[source]["per_task"] for block in of_group], float)
            scores = scores[:, np.isfinite(scores).all(0)]
            low, high = seed_task_interval(scores)
            line.append(f"{scores.mean():.1f} ({low:.1f} to {high:.1f})")
        rows.append((source, *line))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", required=True)
    parser.add_argument("--methods", nargs="+", default=["metastar", "bc"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--validation", type=int, default=0, metavar="K")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where workdirs go")
    args = parser.parse_args()

    label = f"{args.family}_{args.preset}" + f"_validation{args.validation}" * bool(args.validation)
    out = cells.RESULTS / label
    out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        overrides = [f"--config.seed={seed}", f"--config.data.validation_tasks={args.validation}"]
        oracle = args.runs / f"{label}_oracle_{seed}"
        for method in ("oracle", *args.methods):
            workdir = args.runs / f"{label}_{method}_{seed}"
            bound = [] if method == "oracle" else [f"--config.eval.oracle={oracle}"]
            config = f"--config=configs/{method}.py:{args.family},{args.preset}"
            cells.metastar("train", workdir, config, *overrides, *bound)
            shutil.copy(workdir / "results.json", out / f"{method}_seed{seed}.json")

    command = f"python experiments/seeds.py --family {args.family} --methods "
    command += " ".join(args.methods) + " --seeds " + " ".join(map(str, args.seeds))
    content = text(label, command)
    files.write_json(out / "summary.json", {"command": command})
    compare.compare([os.path.relpath(file) for file in sorted(out.glob("*_seed*.json"))], out)
    if args.preset == "quick" and not args.validation:
        tables.insert(PAGE, label, content)
    print(content)


if __name__ == "__main__":
    main()
