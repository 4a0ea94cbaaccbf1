"""Does imagination pay? Model error, overestimation and return by what is imagined, and how.

    python experiments/imagination.py --family point_robot --seeds 3

Every cell is one `metastar train` of all its seeds and a `metastar audit` of each; what is complete
is not done again. All cells share the data set of the preset. Copies `results.json` and the
open-loop errors of `audit.json` of each seed to `experiments/results/imagination_<family>/` and
writes the table to `docs/results.md`, where that has a place for it. With `--validation=K` the last
K training tasks take the place of the test tasks: choices are made so. `--set field=value` changes
every cell, for instance the updates, which are fewer than the preset's: `UPDATES`.
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
BATCH = 64  # transitions of a task in an update, real and imagined together
UPDATES = {"train.pretrain_updates": 1_500, "train.updates": 3_000, "train.eval_every": 1_500}
HORIZONS = (1, 4, 8)  # of the open-loop errors that the table shows
REAL = {"imagine.start": "real"}
DOUBT = {"world_model.ensemble": 5, "imagine.penalty": 1.0}


def cell(horizon: int, real_share: float, **fields) -> dict:
    """Overrides for a share of real transitions; rollouts are whole, and at least one."""
    rollouts = max(1, round((1 - real_share) * BATCH / horizon))
    return {"imagine.horizon": horizon, "imagine.num_rollouts": rollouts, **fields}


CELLS = {
    "hardly any": cell(1, 1.0),
    "horizon 1": cell(1, 0.75),
    "horizon 2": cell(2, 0.75),
    "horizon 4": cell(4, 0.75),
    "horizon 8": cell(8, 0.75),
    "real share 0.95": cell(1, 0.95),
    "real share 0.5": cell(1, 0.5),
    "real start": cell(1, 0.75, **REAL),
    "real start, horizon 4": cell(4, 0.75, **REAL),
    "real start, horizon 8": cell(8, 0.75, **REAL),
    "free bits per element": cell(4, 0.75, **REAL, **{"world_model.free_bits_per": "element"}),
    "disagreement": cell(4, 0.75, **REAL, **DOUBT, **{"imagine.uncertainty": "disagreement"}),
    "combo": cell(4, 0.75, **REAL, **{"agent.penalty": "combo"}),
    "reward uncertainty": cell(4, 0.75, **REAL, **DOUBT, **{"agent.penalty": "reward_uncertainty"}),
}  # all others have the penalty "cql"
COLUMNS = (
    "cell",
    "seeds",
    "real share",
    *(f"state error after {h}" for h in HORIZONS),
    "reward error after 1",
    "expected value",
    "overestimation",
    "few-shot",
    "zero-shot",
    "minutes, all seeds",
)


def metastar(command: str, workdir: Path, *arguments: str) -> None:
    line = [sys.executable, "-m", "metastar", command, f"--workdir={workdir}", *arguments]
    subprocess.run(line, check=True)


def run(workdir: Path, config: str, fields: dict) -> list[dict]:
    """Trains one cell and audits each seed; returns the results of each, open-loop errors added."""
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    metastar("train", workdir, f"--config={config}", *overrides)
    found = []
    for k in range(fields["num_seeds"]):
        own = workdir / "seeds" / str(k) if fields["num_seeds"] > 1 else workdir
        if not (own / "audit.json").exists():
            metastar("audit", own)
        results, audit = (
            json.loads((own / name).read_text()) for name in ("results.json", "audit.json")
        )
        found.append({**results, "open_loop": audit["open_loop"]["test"]})
    return found


def spread(values: list[float], form: str = "{:.3f}") -> str:
    low, high = (form.format(x) for x in (min(values), max(values)))
    return f"{form.format(np.mean(values))} ({low} to {high})"


def interval(blocks: list[dict], form: str = "{:.1f}") -> str:
    """Mean over seeds and tasks, with the interval that speaks of both."""
    scores = np.array([block["per_task"] for block in blocks], float)
    low, high = seed_task_interval(scores)
    return f"{form.format(scores.mean())} ({form.format(low)} to {form.format(high)})"


def row(name: str, results: list[dict]) -> tuple[str, ...]:
    fields = CELLS[name]
    imagined = fields["imagine.horizon"] * fields["imagine.num_rollouts"]
    errors = [result["open_loop"] for result in results]
    values = [result["few_shot"]["value"] for result in results]
    return (
        name,
        str(len(results)),
        f"{1 - imagined / BATCH:.2f}",
        *(spread([e["obs"]["right"][h - 1] for e in errors]) for h in HORIZONS),
        spread([e["reward"]["right"][0] for e in errors]),
        spread([value["value"] for value in values], "{:.2f}"),
        interval(values, "{:.2f}"),
        interval([result["few_shot"] for result in results]),
        interval([result["zero_shot"] for result in results]),
        f"{max(result['wall_seconds'] for result in results) / 60:.1f}",
    )


def table(out: Path) -> str:
    """The table of one folder of results, from its files alone."""
    rows = [COLUMNS]
    for name in CELLS:
        found = sorted(out.glob(f"{name_of(name)}_seed*.json"))
        if found:
            rows.append(row(name, [json.loads(f.read_text()) for f in found]))
    return tables.markdown(rows) + "\n"


def name_of(cell: str) -> str:
    return cell.replace(", ", "_").replace(" ", "_")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="point_robot")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--validation", type=int, default=0, metavar="K")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where workdirs go")
    args = parser.parse_args()
    label = f"imagination_{args.family}" + f"_validation{args.validation}" * bool(args.validation)
    out = HERE / "results" / label
    out.mkdir(parents=True, exist_ok=True)
    config = f"configs/metastar/{args.family}.py:{args.preset}"
    shared = {
        **UPDATES,
        "sampler.batch_size": BATCH,
        "num_seeds": args.seeds,
        "data.validation_tasks": args.validation,
        **dict(change.split("=", 1) for change in args.set),
    }
    for name in args.cells:
        found = run(args.runs / label / name_of(name), config, {**shared, **CELLS[name]})
        for seed, results in enumerate(found):
            text = json.dumps(results, indent=1) + "\n"
            files.write_atomic(out / f"{name_of(name)}_seed{seed}.json", text)
    if f"<!-- {label} -->" in PAGE.read_text():
        tables.insert(PAGE, label, table(out))
    print(table(out))


if __name__ == "__main__":
    main()
