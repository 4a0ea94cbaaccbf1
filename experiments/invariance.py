"""What each term buys: invariance to behaviour, return and time. The ablation of `docs/results.md`.

    python experiments/invariance.py --family point_robot --num-seeds 3

Every cell is one `metastar train` of all its seeds, and for each an evaluation with exploration
where the cell's model allows it, and a `metastar audit`; what is complete is not done again. All
cells of a family share one data set of mixed behaviours, and one oracle that bounds their returns.
Copies `results.json` and `audit.json` of each run to `experiments/results/invariance_<family>/` and
writes two tables to `docs/results.md`. With `--validation=K` the last K training tasks take the
place of the test tasks: choices are made so. `--alike` trains on the experts alone, those of SAC
and of TD3, whose windows are alike, so that there is little to be invariant to. `--set field=value`
changes every cell, for instance the updates, which are fewer than the preset's: `UPDATES`.
"""

import argparse
from pathlib import Path

import cells
import numpy as np

from metastar import files
from metastar.tools.report import tables

PAGE = cells.DOCS / "results.md"

# Fewer than the preset's, for a cell of minutes.
UPDATES = {
    "point_robot": {
        "train.pretrain_updates": 6_000,
        "train.updates": 2_000,
        "train.eval_every": 400,
    },
    "cheetah_vel": {"train.updates": 4_000, "train.eval_every": 800},
}
ALIKE = {"data.policies": "sac,td3", "data.stages": "expert"}
WIDE = {**cells.CQL, "world_model.code_dim": 16}
# The reference's objective: distances between tasks, one window of each, a free scale, in codes of
# 16 dimensions like all cells that do not say otherwise.
PAPER = {
    **WIDE,
    "world_model.latent_init": "reference",
    "world_model.pretrain_lr": 1e-3,
    "task_losses.distance": 1.0,
    "task_losses.infonce": 0.0,
    "task_losses.reconstruction": 0.0,
    "world_model.code_bound": "none",
    "world_model.recon_weight": 1.0,
    "world_model.dyn_weight": 1.0,
    "world_model.mask_episode_boundaries": False,
    "sampler.windows": 1,
    "sampler.positive": "any",
}
# Without these the contrast of the cells below stays where all codes are alike.
PRECISE = {
    "world_model.latent_init": "precise",
    "world_model.pretrain_lr": 3e-3,
    "world_model.recon_weight": 20.0,
}
CROSS = {
    "task_losses.distance": 0.0,
    "task_losses.infonce": 10.0,
    "world_model.code_bound": "sphere",
    "world_model.dyn_weight": 0.1,
    "world_model.mask_episode_boundaries": True,
    "sampler.windows": 2,
    "sampler.positive": "other_behavior",
}
CONDITION = {**PAPER, **PRECISE, "world_model.condition": "concat"}
CONTRAST = {**CONDITION, **CROSS}
LONGER = {"train.pretrain_updates": 15_000, "train.updates": 6_000}
LONGEST = {"train.pretrain_updates": 40_000, "train.updates": 6_000}
CELLS = {
    "paper": PAPER,
    "+ precise": {**PAPER, **PRECISE},
    "+ condition": CONDITION,
    "+ cross-behaviour": CONTRAST,
    "+ adversary": {**CONTRAST, "task_losses.adversary": 1.0},
    "+ mmd": {**CONTRAST, "task_losses.mmd": 1.0},
    "+ spread": {**CONTRAST, "task_losses.spread": 1.0},
    "16 dimensions": WIDE,
    "16 dimensions, longer": {**WIDE, **LONGER},
    "3 dimensions": cells.CQL,
    "3 dimensions, longer": {**cells.CQL, **LONGER},
    "default": {},
    "default, longer": LONGER,
    "default, longest": LONGEST,
    "default, gru": {"world_model.core": "gru"},
    "default, mlp": {"world_model.core": "mlp"},
}


def run(workdir: Path, config: str, fields: dict) -> list[tuple[dict, dict]]:
    """Trains, evaluates and audits one cell; returns the results and the audit of each seed."""
    explores = fields.get("task_losses.reconstruction", 1.0) > 0
    found = []
    for folder in cells.train(workdir, config, fields):
        evaluated = cells.read(folder, "results.json")["protocols"]
        if explores and "explored_posterior" not in evaluated:
            cells.metastar("evaluate", folder, "--explore=posterior")
        audit = cells.audited(folder)
        found.append((cells.read(folder, "results.json"), audit))
    return found


def mean_of(audits: list[dict], *path: str) -> np.ndarray:
    """One number of every seed's audit on held-out tasks and the sources of the training."""
    for name in ("splits", "test", "trained", *path):
        audits = [audit[name] for audit in audits]
    return np.array(audits, float)


COLUMNS = (
    "cell",
    "seeds",
    "ratio",
    "energy distance",
    "tasks that differ (control)",
    "which source? (upper bound, chance)",
    "task R² (fitted on training tasks)",
    "few-shot",
    "zero-shot",
    "exploring",
    "minutes",
)
KINDS = ("few_shot", "zero_shot")
SPLITS = {"test_id": (), "moderate OOD": ("ood_moderate",), "extreme OOD": ("ood_extreme",)}
COSTS = (
    "cell",
    *(f"{kind}, {split}" for kind in ("few-shot", "zero-shot") for split in SPLITS),
    "success, few-shot",
    "success, zero-shot",
    "gap lost from best to worst source, points",
    "last five evaluations, mean",
    "their drop",
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
        cells.spread(mean_of(audits, "ratio", "ratio")),
        cells.spread(mean_of(audits, "energy", "pairs", "relative")),
        f"{100 * differing:.0f} % ({100 * control:.0f} %)",
        f"{100 * accuracy:.0f} % ({100 * upper:.0f} %, {100 * chance:.0f} %)",
        cells.spread(mean_of(audits, "task_of_training", "linear", "r2")),
        cells.interval(results, "protocols", "few_shot"),
        cells.interval(results, "protocols", "zero_shot"),
        cells.interval(results, "protocols", "explored_posterior"),
        f"{np.mean([r['wall_seconds'] for r in results]) / 60:.1f}",
    )


def costs(cell: str, results: list[dict], audits: list[dict], bound: float) -> tuple[str, ...]:
    """What a user feels of one cell: returns on every kind of tasks, and what changes them."""
    few, zero = (
        [cells.interval(results, *path, "protocols", kind) for path in SPLITS.values()]
        for kind in KINDS
    )
    drop = [drop_of(audit, bound) for audit in audits]
    last = [result["stability"]["few_shot"] for result in results]
    return (
        cell,
        *few,
        *zero,
        *(
            cells.spread([r["protocols"][kind]["success"] for r in results], "{:.2f}")
            for kind in KINDS
        ),
        cells.spread(100 * np.array(drop), "{:.0f}"),
        *(cells.spread([block[name] for block in last], "{:.1f}") for name in ("mean", "drop")),
    )


def drop_of(audit: dict, bound: float) -> float:
    """Return lost from the best source of the training to the worst, as a share of the gap.

    The gap lies between uniform actions and `bound` (`bound_of`), one for all rows of a table,
    whatever oracle their audits had.
    """
    source = audit["cost"]["by_source"]
    trained = audit["splits"]["test"]["trained"]["energy"]["sources"]
    returns = [source[name]["return"] for name in trained if name in source]
    return (max(returns) - min(returns)) / (bound - audit["cost"]["random"])


def bound_of(out: Path, results: list[dict]) -> float:
    """Few-shot return of the best oracle: those that the rows had, and the newest in the folder."""
    newest = "oracle_results.json"
    found = []
    if (out / newest).exists():
        found = [cells.read(out, newest)["protocols"]["few_shot"]["mean"]]
    return max(found + [result["bounds"]["oracle"] for result in results])


def table(out: Path) -> str:
    """The tables of one folder of results, from its files alone."""
    pairs = {}
    for cell in CELLS:
        found = sorted(out.glob(f"{cells.file_name(cell)}_seed*_results.json"))
        if found:
            audits = [Path(str(f).replace("_results", "_audit")) for f in found]
            pairs[cell] = [[cells.read(out, f.name) for f in kind] for kind in (found, audits)]
    bound = bound_of(out, [result for results, _ in pairs.values() for result in results])
    rows = [COLUMNS, *(row(cell, *pair) for cell, pair in pairs.items())]
    cost = [COSTS, *(costs(cell, *pair, bound) for cell, pair in pairs.items())]
    return f"{tables.markdown(rows)}\n\n{tables.markdown(cost)}\n"


def label_of(args) -> str:
    label = f"invariance_{args.family}" + "_alike" * args.alike
    return label + f"_validation{args.validation}" * bool(args.validation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cells.add_arguments(parser, list(cells.MIXED), CELLS)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--validation", type=int, default=0, metavar="K")
    parser.add_argument("--alike", action="store_true")
    args = parser.parse_args()
    label = label_of(args)
    out = cells.RESULTS / label
    out.mkdir(parents=True, exist_ok=True)
    config = f"configs/metastar.py:{args.family},{args.preset}"
    data = {
        **cells.MIXED[args.family],
        **(ALIKE if args.alike else {}),
        "data.validation_tasks": args.validation,
    }
    bound = f"configs/oracle.py:{args.family},{args.preset}"
    (oracle,) = cells.train(args.runs / label / "oracle", bound, data)
    files.write_json(out / "oracle_results.json", cells.read(oracle, "results.json"))
    shared = {**UPDATES[args.family], **data, "eval.oracle": oracle}
    for cell in args.cells:
        fields = {**shared, **CELLS[cell], **dict(args.set), "num_seeds": args.num_seeds}
        found = run(args.runs / label / cells.file_name(cell), config, fields)
        for seed, pair in enumerate(found):
            for kind, content in zip(("results", "audit"), pair):
                file = out / f"{cells.file_name(cell)}_seed{seed}_{kind}.json"
                files.write_json(file, content)
    if not args.validation:
        tables.insert(PAGE, label, table(out))
    print(table(out))


if __name__ == "__main__":
    main()
