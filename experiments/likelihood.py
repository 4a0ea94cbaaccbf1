"""Codes by the encoder against codes by likelihood, of the same agents, on withheld tasks.

    metastar train --config=configs/metastar.py:cheetah_vel,quick \\
        --config.data.validation_tasks=6 --workdir=runs/likelihood_cheetah_vel
    python experiments/likelihood.py cheetah_vel

The second evaluates the run, or each of its seeds, under every arm of `ARMS`, and writes a file for
each to `experiments/results/likelihood_cheetah_vel_validation6/`, unless it is there, and the table
of all of them to `docs/log.md`. Files say how their runs were trained. Out-of-distribution tasks
are evaluated too, if the data have some; test tasks are not. Call it from the root of the checkout.
"""

import argparse
from pathlib import Path

import cells
import jax
import numpy as np
from ml_collections import FrozenConfigDict

from metastar import config, files
from metastar.collection import collect
from metastar.data import choose, store
from metastar.data.sources import sources_in
from metastar.evaluation import evaluate, likelihood, results
from metastar.ops import probes
from metastar.tools.audit import codes as audit_codes
from metastar.tools.audit import measures as audit_measures
from metastar.tools.report import tables
from metastar.training import checkpoint, restore, workdir
from metastar.training.chunk import params_of

PLAIN = {"inference.between": 0, "inference.neighbours": 0, "inference.beyond": 0.0}
BANK = {**PLAIN, "inference.choice": "bank", "inference.nats": 10.0, "inference.fit": 0.5}
ARMS = {
    "encoder": {**PLAIN, "inference.choice": "encoder"},
    "bank": BANK,
    "free": {**BANK, "inference.nats": 0.0},
    "unguarded": {**BANK, "inference.nats": 0.0, "inference.fit": 1e6},
    "between": {**BANK, "inference.between": 3},
    "free_between": {**BANK, "inference.nats": 0.0, "inference.between": 3},
    "near": {**BANK, "inference.between": 3, "inference.neighbours": 4},
    "free_near": {
        **BANK,
        "inference.nats": 0.0,
        "inference.between": 3,
        "inference.neighbours": 4,
    },
    "loose": {**BANK, "inference.fit": 1.5},
    "loose_between": {**BANK, "inference.fit": 1.5, "inference.between": 3},
    "beyond": {**BANK, "inference.fit": 1.5, "inference.between": 3, "inference.beyond": 2.0},
    "free_near_beyond": {
        **BANK,
        "inference.nats": 0.0,
        "inference.fit": 1.5,
        "inference.between": 3,
        "inference.neighbours": 4,
        "inference.beyond": 2.0,
    },
}
TITLES = {
    "encoder": "encoder",
    "bank": "bank, 10 nats",
    "free": "bank, 0 nats",
    "unguarded": "bank, without guards",
    "between": "bank and codes between, 10 nats",
    "free_between": "bank and codes between, 0 nats",
    "near": "bank and codes between the nearest, 10 nats",
    "free_near": "bank and codes between the nearest, 0 nats",
    "loose": "bank, 10 nats, fit 1.5",
    "loose_between": "bank and codes between, 10 nats, fit 1.5",
    "beyond": "bank, codes between and beyond, 10 nats, fit 1.5",
    "free_near_beyond": "bank, codes between the nearest and beyond, 0 nats, fit 1.5",
}
LABEL = "likelihood_{name}_validation6"
RUN = "runs/likelihood_{name}"
COMMAND = "python experiments/likelihood.py {name}"
PARTS = {"withheld": "withheld tasks", "ood_moderate": "moderate", "ood_extreme": "extreme"}
OTHERS = f"{choose.CROSS_TASK} expert"  # the source of contexts by policies of other tasks
WINDOWS = 64  # of each task and source, for the measures of codes
KINDS = {"trained": "sources of the training", "all": "all sources"}
MEASURES = (
    ("ratio of variances", "{:.4f}", lambda x: x["ratio"].get("ratio")),
    ("energy distance", "{:.4f}", lambda x: x["energy"].get("pairs", {}).get("relative")),
    ("share that differs", "{:.0%}", lambda x: x["energy"].get("pairs", {}).get("share_differing")),
    (
        "share that differs, control",
        "{:.0%}",
        lambda x: x["energy"].get("control", {}).get("share_differing"),
    ),
    ("probe of the source", "{:.0%}", lambda x: x["probe"]),
)
KEPT = ("mean", "iqm", "ci95", "per_task", "title", "informative", "by_context_source")


def with_ood(run: restore.Restored) -> store.Tasks:
    """A run's tasks, and beside the withheld ones those that the data have out of distribution."""
    data = collect.data_set(run.cfg)
    split = choose.split_ids(data.manifest, run.cfg)
    split |= {name: x for name, x in data.manifest.split.items() if name in store.OOD and x}
    cfg = config.change(run.cfg, {"data.validation_tasks": 0})
    data = data._replace(manifest=data.manifest._replace(split=split))
    return store.tasks_of(data, cfg)


def evaluated(run: restore.Restored, tasks: store.Tasks, arm: str, folder: Path, name: str) -> dict:
    """Evaluates a run under an arm; returns what is kept of the results, and measures of codes."""
    cfg = FrozenConfigDict(config.change(run.cfg, ARMS[arm]))
    folder.mkdir(exist_ok=True)
    meta = {
        "wall_seconds": run.meta["wall_seconds"],
        "updates": run.step,
        "command": COMMAND.format(name=name),
        "params_sha256": checkpoint.params_sha256(params_of(run.state)),
        "digests": run.digests,
    }
    final = evaluate.make_final(cfg, run.method, tasks)
    found = final(cfg, run.method.export(run.state), folder, meta)
    parts = ("", "train", *(name for name in store.OOD if name in found))
    return {
        "command": meta["command"],
        "trained_by": (folder.parent / workdir.COMMAND).read_text().strip(),
        "arm": config.flatten(cfg.inference),
        **{name: found[name] for name in ("family", "seed", "updates", "commit", "params_sha256")},
        "evaluation_seconds": found["evaluation_seconds"],
        "protocols": {part or "withheld": kept(found[part] if part else found) for part in parts},
        "codes": measured(results.read_arrays(folder), "test"),
    }


def kept(column: dict) -> dict:
    """What the table reads of a column of results."""
    return {
        name: {key: block[key] for key in KEPT if key in block}
        for name, block in column["protocols"].items()
    }


def measured(arrays: dict[str, np.ndarray], part: str) -> dict:
    """Task R² of the few-shot codes on the tasks of a part, from an evaluation's arrays.

    The share of the task parameters that a linear map explains, fitted on codes of the training
    tasks' own uniform contexts, for contexts of each source.
    """
    code = np.moveaxis(arrays["few_shot_source_code"], 0, 1).astype(float)  # [N, K, W, Z]
    keep = np.moveaxis(arrays["few_shot_source_present"], 0, 1)
    keep = np.broadcast_to(keep.reshape(*keep.shape[:2], -1), code.shape[:-1])
    rows, train = arrays["split"] == part, arrays["split"] == "train"
    factor = arrays["goal"] if arrays["goal"].size else arrays["label"][:, None]
    factor = (factor - factor[train].mean(0)) / factor[train].std(0)
    own = arrays["few_shot_code"].astype(float)  # [N, W, Z]
    middle, scale = own[train].mean((0, 1)), own[train].std((0, 1)) + 1e-9
    target = np.broadcast_to(factor[:, None], (*own.shape[:2], factor.shape[-1]))
    used = np.broadcast_to(train[:, None], own.shape[:2])
    weights = probes.ridge_weights((own - middle) / scale, target, used, np.where(train, 0, 1))[1]
    found = {}
    for k, name in enumerate(arrays["few_shot_sources"]):
        predicted = probes.with_one((code[rows, k] - middle) / scale) @ weights
        truth = np.broadcast_to(factor[rows, None], predicted.shape)
        here = keep[rows, k][..., None]
        error = np.where(here, (predicted - truth) ** 2, 0).sum((1, 2))
        spread = np.where(here, (truth - truth.mean((0, 1))) ** 2, 0).sum((1, 2))
        found[str(name)] = float(probes.r2(error, spread, np.ones(len(error))))
    return {"r2": found}


def audited(run: restore.Restored, arm: str, name: str) -> dict:
    """The audit's ratio and energy of codes of the withheld tasks, and its linear probe.

    Under "all" sources and those that the run "trained" on.
    """
    cfg = FrozenConfigDict(config.change(run.cfg, ARMS[arm]))
    inference = likelihood.make(cfg.inference, run.method)
    data = collect.data_set(cfg)
    manifest, withheld = data.manifest, store.load(data, "test", cfg)
    params = inference.params(run.method.export(run.state), lambda: store.load(data, "train", cfg))
    found = sources_in(manifest.policies, manifest.stages, [withheld])
    draws = [audit_codes.halves(withheld, source) for source in found]
    read = audit_codes.make_reader(inference.method, draws, WINDOWS, jax.random.key(0))
    codes, names = read(params), np.array([source.name for source in found])
    measures = {"command": COMMAND.format(name=name)}
    trained = np.array([not name.startswith(choose.CROSS_TASK) for name in names])
    for kind, some in {"all": np.ones(len(names), bool), "trained": trained}.items():
        code, keep, num = codes.code[:, some], codes.keep[:, some], int(some.sum())
        part = codes._replace(code=code, keep=keep, halved=codes.halved[:, some])
        label = np.broadcast_to(np.arange(num), (1, *keep.shape[:2]))
        x, fold = probes.standardize(code, keep), probes.folds(len(code))
        guess = probes.linear_classes(x, keep, label, num, fold)
        measures[kind] = {
            "sources": names[some].tolist(),
            "ratio": audit_measures.ratio(part),
            "energy": audit_measures.energy(part, names[some].tolist()),
            "probe": float(probes.accuracy(guess, label, keep).mean()),
        }
    return measures


def shown(values: list[float | None], form: str) -> str:
    """A number, or the mean of several with the least and the largest; – where one is missing."""
    one = len(values) == 1 and values[0] is not None
    return form.format(values[0]) if one else cells.spread(values, form)


def stored(name: str) -> dict[str, list[dict]]:
    """What the files of that name hold, by arm: one of each run, its codes under "audit"."""
    out, found = cells.RESULTS / LABEL.format(name=name), {}
    for arm in ARMS:
        for file in sorted(out.glob(f"{arm}_?.json")):
            codes = files.read_json(file.with_stem(f"{file.stem}_codes"), "make it again")
            own = files.read_json(file, "make it again")
            found.setdefault(arm, []).append(own | {"audit": codes})
    return found


def table(name: str) -> str:
    """One column for each arm; with several runs means, the least and the largest."""
    found = stored(name)
    first = next(iter(found.values()))[0]
    rows = [("", *(TITLES[arm] for arm in found))]

    def add(title, value, form):
        rows.append((title, *(shown([value(run) for run in x], form) for x in found.values())))

    for part, words in PARTS.items():
        for name, block in first["protocols"].get(part, {}).items():
            title = f"{block['title']}, {words}"
            add(title, lambda run, p=part, n=name: run["protocols"][p][n]["mean"], "{:.1f}")
            if OTHERS in (block.get("by_context_source") or {}):
                add(
                    f"{title}, contexts by policies of other tasks",
                    lambda run, p=part, n=name: of_others(run["protocols"][p][n]),
                    "{:.1f}",
                )
    for kind, words in KINDS.items():
        for title, form, value in MEASURES:
            add(f"{title}, {words}", lambda run, k=kind, v=value: v(run["audit"][k]), form)
    for source in first["codes"]["r2"]:
        add(f"task R², {source}", lambda run, s=source: run["codes"]["r2"][s], "{:.2f}")
    return tables.markdown(rows)


def of_others(block: dict) -> float:
    return block["by_context_source"][OTHERS]["mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="of the run, after runs/likelihood_")
    parser.add_argument("--arms", default=",".join(ARMS), help="some of them, with commas")
    args = parser.parse_args()
    label, trained = LABEL.format(name=args.name), Path(RUN.format(name=args.name))
    out = cells.RESULTS / label
    out.mkdir(exist_ok=True)
    folders = sorted((trained / "seeds").glob("*")) or [trained]
    for arm in args.arms.split(","):
        for seed, folder in enumerate(folders):
            file, codes = (out / f"{arm}_{seed}{end}.json" for end in ("", "_codes"))
            run = restore.restore(folder)
            if not file.exists():
                files.write_json(file, evaluated(run, with_ood(run), arm, folder / arm, args.name))
            if not codes.exists():
                files.write_json(codes, audited(run, arm, args.name))
    text = f"{table(args.name)}\n\nFiles: `experiments/results/{label}/`.\n"
    tables.insert(cells.DOCS / "log.md", label, text)
    print(text)


if __name__ == "__main__":
    main()
