"""Is a code a property of the task, or of the data it was learned from? Two data sets, one family.

    metastar sweep experiments/sweeps/two_data_sets.py:cheetah_vel
    python experiments/two_data_sets.py --family=cheetah_vel

Models of three seeds were trained on each of two data sets of the same tasks, collected by clearly
different policies. All encode the same windows of held-out tasks, from the sources of both. The
second command compares the codes of every two models after alignment: those that share their data
differ by the seed alone, which is the noise; the others by seed and data. Needs the runs'
checkpoints. Writes `experiments/results/two_data_sets_<family>.json` and a table to
`docs/results.md`.
"""

import argparse
from itertools import combinations, product
from pathlib import Path

import cells
import jax
import numpy as np
from sweeps.two_data_sets import DATA, FAMILIES, METHODS, label_of, variant

from metastar import files
from metastar.collection import collect
from metastar.data import contexts, layout
from metastar.data.sources import Source, sources
from metastar.ops.task_parameters import join_parameters
from metastar.tools.audit import audit
from metastar.tools.audit import codes as audit_codes
from metastar.tools.audit import measures as audit_measures
from metastar.tools.audit.codes import Codes
from metastar.tools.card.summary import distances
from metastar.tools.report import tables
from metastar.training import provenance, restore

PAGE = cells.DOCS / "results.md"
SEEDS = 3
SIDES = ("windows", "task_means")
MEASURES = ("procrustes_residual", "cka")


def seen(workdir: Path) -> list[Source]:
    """The sources that a run was trained on."""
    run = restore.restore(workdir)
    data_set = collect.data_set(run.cfg)
    data, _ = audit.load(run, data_set)
    manifest = data_set.manifest
    return sources(manifest.policies, manifest.stages, *audit_codes.drawn_from(data))


def read(workdir: Path, both: list[Source]) -> tuple[Codes, np.ndarray, np.ndarray]:
    """Codes [N, K, W, Z] of the sources `both`, task parameters [N, F], test tasks [N] bool."""
    run = restore.restore(workdir)
    data, side = audit.load(run, collect.data_set(run.cfg))
    contexts.check(run.method.context, data.count, run.cfg.method)
    draws = [audit_codes.halves(data, source) for source in both]
    key = jax.random.key(audit.SEED)
    reader = audit_codes.make_reader(run.method, draws, audit.WINDOWS, key)
    factor = np.asarray(join_parameters(data.task), float)
    return reader(run.method.export(run.state)), factor, side == "test"


def task_r2(codes: Codes, factor: np.ndarray, test: np.ndarray) -> float:
    """R² of test tasks' parameters by a linear probe that was fitted on training tasks."""
    fit, held_out = (audit_codes.rows_of(codes, rows) for rows in (~test, test))
    found = audit_measures.task_of_others(
        *(fit, fit.keep, factor[~test]), *(held_out, held_out.keep, factor[test])
    )
    return found["linear"]["r2"]


def compare(method: str, runs: dict[str, list[Path]]) -> dict:
    """How alike the codes of every two runs are: `seed`, of one data set, and `data`, of two."""
    both = sorted({source for own in runs.values() for source in seen(own[0])})
    found = {data: [read(run, both) for run in own] for data, own in runs.items()}
    test = found[next(iter(DATA))][0][2]
    code = {d: [codes.code[test] for codes, *_ in own] for d, own in found.items()}
    keep = next(iter(found.values()))[0][0].keep[test]
    alike = audit_measures.alike

    def pairs(of):
        rows = [alike(x, y, keep) for x, y in of]
        return {
            side: {name: [row[side][name] for row in rows] for name in MEASURES} for side in SIDES
        }

    return {
        "method": method,
        "sources": [source.name for source in both],
        "task_r2": {d: [task_r2(*one) for one in own] for d, own in found.items()},
        "seed": {d: pairs(combinations(own, 2)) for d, own in code.items()},
        "data": pairs(product(*code.values())),
    }


def apart(runs: dict[str, list[Path]]) -> dict:
    """2-Wasserstein distance of the two data sets' state-action pairs, mean over tasks.

    `chance` is that of two samples of one of them, the larger.
    """
    data_set = collect.data_set(restore.restore(next(iter(runs.values()))[0]).cfg)
    fields = data_set.fields
    label = np.full(fields["length"].shape, -1)
    for k, own in enumerate(runs.values()):
        for source in seen(own[0]):
            of_source = (fields["policy"] == source.policy) & (fields["stage"] == source.stage)
            label[of_source & (fields["length"] > 0)] = k
    # Episodes of neither are a third source, which is left out of the answer.
    label[(label < 0) & (fields["length"] > 0)] = len(runs)
    label = layout.by_task(label, fields["episodes"], -1)
    value = distances(fields, label, len(runs) + 1)
    mean = np.nanmean(value.value, 0)
    return {"distance": mean[0, 1], "chance": max(mean[0, 0], mean[1, 1]), "num": value.num}


def table(report: dict) -> str:
    """One line a method: how far codes are apart by the seed, and by seed and data."""
    rows = [
        (
            *("codes of", "task R², by experts' data", "by beginners'"),
            *("residual, two seeds", "two data sets", "CKA, two seeds", "two data sets "),
        )
    ]
    for found in report["methods"]:
        seeds = [pair["task_means"] for pair in found["seed"].values()]
        columns = [
            ([x for one in seeds for x in one[name]], found["data"]["task_means"][name])
            for name in MEASURES
        ]
        r2 = (cells.spread(own, "{:.2f}") for own in found["task_r2"].values())
        rows.append(
            (found["method"], *r2, *(cells.spread(x) for column in columns for x in column))
        )
    apart = report["wasserstein"]
    return (
        f"{tables.markdown(rows)}\n\n"
        f"Of the mean codes of held-out tasks; means over pairs of models, with the least and the "
        f"largest. The 2-Wasserstein distance of the data sets' state-action pairs within a task "
        f"is {apart['distance']:.2f} standard deviations (two samples of one of them: "
        f"{apart['chance']:.2f}). Commands: `metastar sweep "
        f"experiments/sweeps/two_data_sets.py:{report['family']}`, then `{report['command']}`; "
        f"file: `experiments/results/{label_of(report['family'])}.json`.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=FAMILIES[0], choices=FAMILIES)
    args = parser.parse_args()
    label = label_of(args.family)

    def runs_of(title, method):
        folder = Path("runs") / label
        return {
            data: [
                folder
                / f"{method}-{variant(title, data)}_{args.family}_quick_0-{SEEDS - 1}"
                / "seeds"
                / str(k)
                for k in range(SEEDS)
            ]
            for data in DATA
        }

    runs = {title: runs_of(title, method) for title, (method, _) in METHODS.items()}
    report = {
        "family": args.family,
        "command": f"python experiments/two_data_sets.py --family={args.family}",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "wasserstein": apart(next(iter(runs.values()))),
        "methods": [compare(title, own) for title, own in runs.items()],
    }
    files.write_json(cells.RESULTS / f"{label}.json", report)
    tables.insert(PAGE, label, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
