"""Does imagination pay? Model error, overestimation and return by what is imagined, and how.

    python experiments/imagination.py --family point_robot --num-seeds 3

Every cell is one `metastar train` of all its seeds, and for each the open-loop errors of its world
model, as `metastar audit` has them; what is complete is not done again. All cells have the data and
the pretraining of the default of `invariance.py`, which therefore comes first; those whose world
model differs have that of the first such cell. Copies `results.json` with the errors of each seed
to `experiments/results/imagination_<family>/` and writes the table to `docs/results.md`. With
`--validation=K` the last K training tasks take the place of the test tasks: choices are made so.
`--set field=value` changes every cell, for instance the updates, which are fewer than the preset's:
`UPDATES`.
"""

import argparse
from pathlib import Path

import cells
import jax

from metastar import files
from metastar.collection import collect
from metastar.data import store
from metastar.tools.audit import open_loop as audit_model
from metastar.tools.report import tables
from metastar.training import restore

PAGE = cells.DOCS / "results.md"
BATCH = 64  # transitions of a task in an update, real and imagined together
UPDATES = {"train.pretrain_updates": 6_000, "train.updates": 2_000, "train.eval_every": 400}
HORIZONS = (1, 4, 8)  # of the open-loop errors that the table shows
REAL = {"imagine.start": "real"}
FIVE = {"world_model.ensemble": 5}
DOUBT = {"imagine.penalty": 1.0}


def cell(horizon: int, real_share: float, **fields) -> dict:
    """Overrides for a share of real transitions; rollouts are whole, and at least one.

    The penalty is on values unless `fields` say otherwise.
    """
    rollouts = max(1, round((1 - real_share) * BATCH / horizon))
    return {**cells.CQL, "imagine.horizon": horizon, "imagine.num_rollouts": rollouts, **fields}


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
    "conditioned on the code": cell(4, 0.75, **REAL, **{"world_model.condition": "concat"}),
    "free bits per element": cell(4, 0.75, **REAL, **{"world_model.free_bits_per": "element"}),
    "disagreement": cell(
        4, 0.75, **REAL, **FIVE, **DOUBT, **{"imagine.uncertainty": "disagreement"}
    ),
    "combo": cell(4, 0.75, **REAL, **{"agent.conservative.penalty": "combo"}),
    "reward uncertainty": cell(4, 0.75, **REAL, **FIVE, **cells.MOPO),
    "reward uncertainty, one decoder": cell(4, 0.75, **REAL, **cells.MOPO),
    "reward uncertainty, hardly any": cell(1, 1.0, **REAL, **cells.MOPO),
}
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


def open_loop(folder: Path) -> dict:
    """The world model's errors on test tasks (`metastar.audit_model.open_loop`)."""
    run = restore.restore(folder)
    data = store.load(collect.data_set(run.cfg), "test", run.cfg)
    params, key = run.method.export(run.state), jax.random.key(0)
    return audit_model.open_loop(run.cfg, run.method, params, data, run.spec.obs_std, key)


def sources(folder: Path, base: Path) -> dict[str, Path]:
    """The workdir with the pretraining of each cell: `base`, or its first with that world model."""
    first, found = {(): base}, {}
    for name, fields in CELLS.items():
        model = tuple(item for item in sorted(fields.items()) if item[0].startswith("world_model."))
        found[name] = first.setdefault(model, folder / cells.file_name(name))
    return found


def run(workdir: Path, config: str, fields: dict) -> list[dict]:
    """Trains one cell; returns the results of each seed, open-loop errors added."""
    return [
        {**cells.read(folder, "results.json"), "open_loop": open_loop(folder)}
        for folder in cells.train(workdir, config, fields)
    ]


def row(name: str, results: list[dict]) -> tuple[str, ...]:
    fields = CELLS[name]
    imagined = fields["imagine.horizon"] * fields["imagine.num_rollouts"]
    errors = [result["open_loop"] for result in results]
    values = [result["protocols"]["few_shot"]["value"] for result in results]
    return (
        name,
        str(len(results)),
        f"{1 - imagined / BATCH:.2f}",
        *(cells.spread([e["obs"]["right"][h - 1] for e in errors]) for h in HORIZONS),
        cells.spread([e["reward"]["right"][0] for e in errors]),
        cells.spread([value["value"] for value in values], "{:.2f}"),
        cells.interval(values, form="{:.2f}"),
        cells.interval(results, "protocols", "few_shot"),
        cells.interval(results, "protocols", "zero_shot"),
        f"{max(result['wall_seconds'] for result in results) / 60:.1f}",
    )


def table(out: Path) -> str:
    """The table of one folder of results, from its files alone."""
    rows = [COLUMNS]
    for name in CELLS:
        found = sorted(out.glob(f"{cells.file_name(name)}_seed*.json"))
        if found:
            rows.append(row(name, [cells.read(out, file.name) for file in found]))
    return tables.markdown(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cells.add_arguments(parser, ["point_robot"], CELLS)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--validation", type=int, default=0, metavar="K")
    args = parser.parse_args()
    of_family = args.family + f"_validation{args.validation}" * bool(args.validation)
    label = f"imagination_{of_family}"
    out = cells.RESULTS / label
    out.mkdir(parents=True, exist_ok=True)
    config = f"configs/metastar.py:{args.family},{args.preset}"
    shared = {
        **cells.MIXED[args.family],
        **UPDATES,
        "sampler.batch_size": BATCH,
        "num_seeds": args.num_seeds,
        "data.validation_tasks": args.validation,
        "train.keep_checkpoints": 9,  # that of the pretraining's end among them
        **dict(args.set),
    }
    pretrained = sources(args.runs / label, args.runs / f"invariance_{of_family}" / "default")
    for name in args.cells:
        workdir, fields = args.runs / label / cells.file_name(name), {**shared, **CELLS[name]}
        if pretrained[name] != workdir:
            fields["train.pretrained"] = pretrained[name]
        found = run(workdir, config, fields)
        for seed, results in enumerate(found):
            files.write_json(out / f"{cells.file_name(name)}_seed{seed}.json", results)
    if not args.validation:
        tables.insert(PAGE, label, table(out))
    print(table(out))


if __name__ == "__main__":
    main()
