"""Do runs end with the same bits, whatever program and devices they share? By XLA's options.

    JAX_NUM_CPU_DEVICES=4 taskset -c 0 python experiments/bitwise.py

On one core, since the number of cores is another thing that bits depend on. Some updates of eight
runs on one, two and four devices, and of the first four alone in a program, against eight on one
device. Writes `experiments/results/bitwise.json` and a table to `docs/scaling.md`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import cells
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from metastar import config, files
from metastar.data import store
from metastar.tools.report import tables
from metastar.training import chunk, placement, plan, provenance, runs
from metastar.training.runs import stack, unstack
from metastar.types import Method, TaskData

METHODS = {  # title: config, updates of the first phase
    "`bc`, `quick`": ("configs/bc.py:point_robot_sparse,quick", 40),
    "MetaSTAR, `quick`": ("configs/metastar.py:point_robot_sparse,quick", 5),
}
OPTIONS = {
    "none": {},
    "YNNPACK for products alone, no CSE": {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT",
        "xla_disable_hlo_passes": "cse",
    },
}
FORMS = {  # title: runs, devices
    "eight runs, one device": (8, 1),
    "four runs, one device": (4, 1),
    "eight runs, two devices": (8, 2),
    "eight runs, four devices": (8, 4),
}
COMPARED = 4  # runs, the first ones
LABEL = "bitwise"
COMMAND = "JAX_NUM_CPU_DEVICES=4 taskset -c 0 python experiments/bitwise.py"


def states(
    method: Method,
    data: TaskData,
    cfg: FrozenConfigDict,
    num_updates: int,
    form: tuple[int, int],
    options: dict,
) -> list[Any]:
    """The states of the first runs after some updates of the first phase."""
    num, devices = form
    place = placement.make({"run": devices, "task": 1}, num)
    keys = [jax.random.split(jax.random.key(k)) for k in range(num)]
    loop = chunk.init(method, stack([key[0] for key in keys]))
    hp = stack([jax.tree.map(jnp.asarray, method.hp)] * num)
    loop, run_key, hp = placement.put((loop, stack([key[1] for key in keys]), hp), place.state)
    data, first = placement.put(data, place.data), np.int32(0)
    every, traces = cfg.train.validate_every, Counter()
    made = chunk.make_chunk(method.phases[0], 0, num_updates, every, traces, num, place)
    program = made.lower(loop, data, run_key, hp, first, first).compile(options)
    loop, _ = program(loop, data, run_key, hp, first, np.int32(num_updates))
    return unstack(placement.on_one(loop), num)[:COMPARED]


def largest(a: Iterable, b: Iterable) -> float:
    """The largest difference between any two numbers; 0 if all bits are the same."""
    leaves = ([np.asarray(x, float) for x in jax.tree.leaves(tree)] for tree in (a, b))
    pairs = zip(*leaves, strict=True)
    return float(max(np.abs(x[x != y] - y[x != y]).max(initial=0.0) for x, y in pairs))


def measured(source: str, num_updates: int) -> dict[str, dict[str, float]]:
    """By options and form: how far the runs are from those of the first form."""
    cfg = config.load(source)
    data, manifest = plan.sample_data(cfg)
    method = runs.make_method(cfg, store.data_spec(manifest, data))
    found = {}
    for title, options in OPTIONS.items():
        first, *others = (
            states(method, data, cfg, num_updates, form, options) for form in FORMS.values()
        )
        names = list(FORMS)[1:]
        found[title] = {name: largest(first, x) for name, x in zip(names, others, strict=True)}
        print(source, title, found[title], flush=True)
    return found


def table(report: dict) -> str:
    """One line a method and options."""
    names = list(FORMS)[1:]
    rows = [("", "XLA's options", *names)]
    for title, found in report["methods"].items():
        for options, apart in found["apart"].items():
            shown = ("bitwise" if not apart[name] else f"{apart[name]:.0e}" for name in names)
            rows.append((f"{title}, {found['updates']} updates", options, *shown))
    file = f"experiments/results/{LABEL}.json"
    return f"{tables.markdown(rows)}\n\nCommand: `{COMMAND}`; file: `{file}`.\n"


def main() -> None:
    methods = {
        title: {"updates": num, "apart": measured(source, num)}
        for title, (source, num) in METHODS.items()
    }
    report = {
        "command": COMMAND,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "options": OPTIONS,
        "methods": methods,
    }
    files.write_json(cells.RESULTS / f"{LABEL}.json", report)
    tables.insert(cells.DOCS / "scaling.md", LABEL, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
