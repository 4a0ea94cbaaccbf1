"""What each term buys: invariance to behaviour, return and time. The ablation of `docs/results.md`.

    python experiments/invariance.py --family point_robot --num-seeds 3

Every cell is one `metastar train` of all its seeds, and for each an evaluation with exploration
where the cell's model allows it, and a `metastar audit`; what is complete is not done again. All
cells of a family share one data set of mixed behaviours. Copies `results.json` and `audit.json` of
each run to
`experiments/results/invariance_<family>/` and writes a table to `docs/results.md`. With
`--validation=K` the last K training tasks take the place of the test tasks: choices are made so.
`--alike` takes data of one policy, where invariance is no matter. `--set field=value` changes every
cell, for instance the updates, which are fewer than the preset's: `UPDATES`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from metastar import files, tables
from metastar.ops.statistics import seed_task_interval

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/results.md"

DATA = {
    "collect.behavior": "mixture",
    "collect.cross_task_episodes": 10,
    "data.ood_tasks": 5,
}
UPDATES = {"train.pretrain_updates": 3_000, "train.updates": 1_500, "train.eval_every": 500}
# The reference's objective: distances between tasks, one window of each, a free scale.
PAPER = {
    "world_model.latent_init": "reference",
    "world_model.pretrain_lr": 1e-3,
    "task_losses.distance": 1.0,
    "task_losses.infonce": 0.0,
    "task_losses.reconstruction": 0.0,
    "world_model.code_bound": "none",
    "world_model.recon_weight": 1.0,
    "world_model.dyn_weight": 1.0,
    "world_model.mask_joints": False,
    "sampler.windows": 1,
    "sampler.positive": "any",
}
# Without these the contrast of the cells below stays where all codes are alike.
PRECISE = {
    "world_model.latent_init": "precise",
    "world_model.pretrain_lr": 3e-3,
    "world_model.recon_weight": 20.0,
}
CONDITION = {"world_model.condition": "concat"}
CROSS = {
    "task_losses.distance": 0.0,
    "task_losses.infonce": 10.0,
    "world_model.code_bound": "sphere",
    "world_model.dyn_weight": 0.1,
    "world_model.mask_joints": True,
    "sampler.windows": 2,
    "sampler.positive": "other_behavior",
}
CONTRAST = {**PAPER, **PRECISE, **CONDITION, **CROSS}
CELLS = {
    "paper": PAPER,
    "+ precise": {**PAPER, **PRECISE},
    "+ condition": {**PAPER, **PRECISE, **CONDITION},
    "+ cross-behaviour": CONTRAST,
    "+ adversary": {**CONTRAST, "task_losses.adversary": 1.0},
    "+ mmd": {**CONTRAST, "task_losses.mmd": 1.0},
    "+ spread": {**CONTRAST, "task_losses.spread": 1.0},
    "default": {},
    "default, gru": {"world_model.core": "gru"},
    "default, mlp": {"world_model.core": "mlp"},
}


def metastar(command: str, workdir: Path, *arguments: str) -> None:
    line = [sys.executable, "-m", "metastar", command, f"--workdir={workdir}", *arguments]
    subprocess.run(line, check=True)


def overrides(fields: dict) -> list[str]:
    return [f"--config.{name}={value}" for name, value in fields.items()]


def run(workdir: Path, config: str, fields: dict, num_seeds: int) -> list[tuple[dict, dict]]:
    """Trains, evaluates and audits one cell; returns the results and the audit of each seed."""
    metastar("train", workdir, f"--config={config}", *overrides({**fields, "num_seeds": num_seeds}))
    several = [workdir / "seeds" / str(k) for k in range(num_seeds)]
    explores = fields.get("task_losses.reconstruction", 1.0) > 0
    found = []
    for folder in several if num_seeds > 1 else [workdir]:
        if explores and "explored" not in read(folder, "results"):
            metastar("evaluate", folder, "--explore=posterior")
        if not (folder / "audit.json").exists():
            metastar("audit", folder)
        found.append((read(folder, "results"), read(folder, "audit")))
    return found


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def mean_of(audits: list[dict], *path: str) -> np.ndarray:
    """One number of every seed's audit on held-out tasks and the sources of the training."""
    for name in ("splits", "test", "trained", *path):
        audits = [audit[name] for audit in audits]
    return np.array(audits, float)


def spread(values: np.ndarray, form: str = "{:.3f}") -> str:
    low, high = (form.format(x) for x in (values.min(), values.max()))
    return f"{form.format(values.mean())} ({low} to {high})"


def returns(results: list[dict], *path: str) -> str:
    """Mean over seeds and tasks of one block, with its interval; – where a cell has none."""
    for name in path:
        if any(name not in r for r in results):
            return "–"
        results = [r[name] for r in results]
    scores = np.array([r["per_task"] for r in results], float)
    low, high = seed_task_interval(scores)
    return f"{scores.mean():.1f} ({low:.1f} to {high:.1f})"


COLUMNS = (
    "cell",
    "seeds",
    "ratio",
    "energy distance",
    "tasks that differ (control)",
    "which source? (upper bound, chance)",
    "task R²",
    "few-shot",
    "zero-shot",
    "exploring",
    "minutes",
)


def row(cell: str, results: list[dict], audits: list[dict]) -> tuple[str, ...]:
    differing = mean_of(audits, "energy", "pairs", "share_differing").mean()
    control = mean_of(audits, "energy", "control", "share_differing").mean()
    probe = ("identity", "linear")
    accuracy, upper = (mean_of(audits, *probe, name).mean() for name in ("accuracy", "upper95"))
    chance = mean_of(audits, "identity", "chance").mean()
    return (
        cell,
        str(len(results)),
        spread(mean_of(audits, "ratio", "ratio")),
        spread(mean_of(audits, "energy", "pairs", "relative")),
        f"{100 * differing:.0f} % ({100 * control:.0f} %)",
        f"{100 * accuracy:.0f} % ({100 * upper:.0f} %, {100 * chance:.0f} %)",
        spread(mean_of(audits, "task", "linear", "r2")),
        returns(results, "few_shot"),
        returns(results, "zero_shot"),
        returns(results, "explored", "posterior"),
        f"{np.mean([r['wall_seconds'] for r in results]) / 60:.1f}",
    )


def table(out: Path) -> str:
    """The table of one folder of results, from its files alone."""
    rows = [COLUMNS]
    for cell in CELLS:
        found = sorted(out.glob(f"{name_of(cell)}_seed*_results.json"))
        if found:
            audits = [Path(str(f).replace("_results", "_audit")) for f in found]
            pairs = [[json.loads(f.read_text()) for f in kind] for kind in (found, audits)]
            rows.append(row(cell, *pairs))
    return tables.markdown(rows) + "\n"


def name_of(cell: str) -> str:
    return cell.replace("+ ", "").replace(", ", "_")


def label_of(args) -> str:
    label = f"invariance_{args.family}" + "_alike" * args.alike
    return label + f"_validation{args.validation}" * bool(args.validation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="point_robot")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--num-seeds", type=int, default=3, metavar="S", help="seeds 0 to S - 1")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--validation", type=int, default=0, metavar="K")
    parser.add_argument("--alike", action="store_true")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where workdirs go")
    args = parser.parse_args()
    label = label_of(args)
    out = HERE / "results" / label
    out.mkdir(parents=True, exist_ok=True)
    config = f"configs/metastar/{args.family}.py:{args.preset}"
    data = {"collect.cross_task_episodes": 10} if args.alike else DATA
    shared = {
        **UPDATES,
        **data,
        "data.dir": f"data/{label.split('_validation')[0]}",
        "data.validation_tasks": args.validation,
    }
    changes = dict(change.split("=", 1) for change in args.set)
    for cell in args.cells:
        fields = {**shared, **CELLS[cell], **changes}
        found = run(args.runs / label / name_of(cell), config, fields, args.num_seeds)
        for seed, pair in enumerate(found):
            for kind, content in zip(("results", "audit"), pair):
                text = json.dumps(content, indent=1) + "\n"
                files.write_atomic(out / f"{name_of(cell)}_seed{seed}_{kind}.json", text)
    if not args.validation:
        tables.insert(PAGE, label, table(out))
    print(table(out))


if __name__ == "__main__":
    main()
