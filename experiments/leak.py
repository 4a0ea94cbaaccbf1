"""Where in a code is its source? The ablation's codes taken apart. Dense Point-Robot.

    python experiments/leak.py

Reads the codes of test tasks under the sources of the training, of every seed of two finished cells
of `sweeps/invariance.py`, and measures what is left of their differences when parts are taken
away: `PARTS`. Needs the runs' checkpoints. Writes `experiments/results/leak.json` and a table to
`docs/results.md`.
"""

import argparse
from pathlib import Path

import cells
import jax
import numpy as np
from sweeps.invariance import variant

from metastar import files
from metastar.collection import collect
from metastar.data.sources import sources
from metastar.ops.task_parameters import join_parameters
from metastar.tools.audit import audit
from metastar.tools.audit import codes as audit_codes
from metastar.tools.audit import measures as audit_measures
from metastar.tools.audit import probes as audit_probes
from metastar.tools.audit.codes import Codes
from metastar.tools.report import tables
from metastar.training import provenance, restore

PAGE, LABEL = cells.DOCS / "results.md", "leak"
OUT = cells.RESULTS / f"{LABEL}.json"
CELLS = ("16 dimensions, longer", "3 dimensions, longer")
PARTS = {
    "code": "the whole code",
    "readout": "its linear readout of the goal, fitted on training tasks",
    "rest": "the directions that the readout does not see",
    "centred": "the whole code, every source moved to the task's mean",
    "centred, equal spread": "and every source's scatter within a task scaled to the same size",
}


def read(workdir: Path) -> tuple[Codes, np.ndarray, np.ndarray, list[str]]:
    """Codes of training and test tasks [N, K, W, Z], goals [N, 2], which are of test tasks [N]."""
    run = restore.restore(workdir)
    data_set = collect.data_set(run.cfg)
    manifest = data_set.manifest
    data, side = audit.load(run, data_set)
    found = sources(manifest.policies, manifest.stages, *audit_codes.drawn_from(data))
    draws = [audit_codes.halves(data, source) for source in found]
    key = jax.random.key(audit.SEED)
    reader = audit_codes.make_reader(run.method, draws, audit.WINDOWS, key)
    goal = np.asarray(join_parameters(data.task), float)
    names = [source.name for source in found]
    return reader(run.method.export(run.state)), goal, side == "test", names


def parts_of(codes: Codes, goal: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of the codes of test tasks, by the names of `PARTS`, each [N, K, W, any]."""
    code = codes.code.astype(float)
    inputs = code[~test].reshape(-1, code.shape[-1])
    targets = np.repeat(goal[~test], code.shape[1] * code.shape[2], axis=0)
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], -1)
    weight = np.linalg.lstsq(inputs, targets, rcond=None)[0][:-1]  # [Z, 2]
    unseen = np.linalg.svd(weight)[0][:, weight.shape[1] :]  # [Z, Z - 2]
    code = code[test]
    mean = code.mean(2, keepdims=True)
    scatter = code - mean
    size = np.sqrt((scatter**2).sum(-1, keepdims=True).mean(2, keepdims=True))
    centre = mean.mean(1, keepdims=True)
    return {
        "code": code,
        "readout": code @ weight,
        "rest": code @ unseen,
        "centred": centre + scatter,
        "centred, equal spread": centre + scatter / size * size.mean(),
    }


def measure(workdir: Path) -> dict[str, dict]:
    """Energy distance, share that differs and the probe's accuracy, of each part of one run."""
    codes, goal, test, names = read(workdir)
    of_test, found = audit_codes.rows_of(codes, test), {}
    for name, part in parts_of(codes, goal, test).items():
        one = of_test._replace(code=part.astype(np.float32))
        pairs = audit_measures.energy(one, names)["pairs"]
        linear = audit_probes.identity(one, names)["identity"]["linear"]
        found[name] = {
            "energy": pairs["relative"],
            "differing": pairs["share_differing"],
            "accuracy": linear["accuracy"],
            "upper95": linear["upper95"],
        }
    return found


def table(report: dict) -> str:
    """One line for each cell and part; means over seeds, with the least and the largest."""
    rows = [
        ("cell", "what of the code", "energy distance", "differ", "which source? (upper bound)")
    ]
    for cell, seeds in report["cells"].items():
        for part in PARTS:
            one = {name: [seed[part][name] for seed in seeds] for name in seeds[0][part]}
            percent = {n: f"{100 * np.mean(one[n]):.0f} %" for n in one if n != "energy"}
            shown = f"{percent['accuracy']} ({percent['upper95']})"
            rows.append(
                (cell, PARTS[part], cells.spread(one["energy"]), percent["differing"], shown)
            )
    return tables.markdown(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-seeds", type=int, default=3, metavar="S")
    args = parser.parse_args()
    runs = Path("runs/invariance_point_robot")
    of_cell = {cell: runs / f"metastar-{variant(cell)}_point_robot_quick_0-2" for cell in CELLS}
    report = {
        "command": "python experiments/leak.py",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "cells": {
            cell: [measure(path / "seeds" / str(k)) for k in range(args.num_seeds)]
            for cell, path in of_cell.items()
        },
    }
    files.write_json(OUT, report)
    tables.insert(PAGE, LABEL, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
