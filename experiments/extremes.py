"""How fast must an agent be told to run beyond the training's speeds? The oracle of Cheetah-Vel.

    metastar train --config=configs/oracle.py:cheetah_vel \\
        --workdir=runs/default_cheetah_vel/oracle_cheetah_vel_0
    python experiments/extremes.py

The oracle acts on the target that it is told. On the extreme tasks, all faster than those of the
training, it is told others than the true ones: fixed ones, and those that an ideal reader, which
knows the reward function, finds in contexts of the tasks by least squares, among the targets of the
training or among all: what it returns then is what such a reader gives such an agent.

Test tasks are not looked at. Writes `experiments/results/extremes_cheetah_vel.json` and a table to
`docs/log.md`. Call it from the root of the checkout.
"""

import cells
import jax
import jax.numpy as jnp
import numpy as np
from other_codes import rewards

from metastar import files
from metastar.collection import collect
from metastar.data import choose, contexts, store
from metastar.data.sources import sources_in
from metastar.envs.make import make_env
from metastar.evaluation import episodes
from metastar.tools.report import tables
from metastar.training import checkpoint, provenance, restore
from metastar.training.chunk import params_of

RUN = "runs/default_cheetah_vel/oracle_cheetah_vel_0"
LABEL = "extremes_cheetah_vel"
COMMAND = "python experiments/extremes.py"
PART = "ood_extreme"
STREAMS = 16  # contexts and episodes of each task and source
FASTEST = 5.0  # m/s, of the reader that takes any target for possible
GRID = 0.02  # m/s
ALIKE = 0.05  # m/s: rewards that a reader of a model's precision does not tell apart
FIXED = (2.6, 2.8, 3.0, 3.1, 3.2, 3.3, 3.4)  # m/s


def read(view, own: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The target of least squared error, and the root of its mean: [N, W] of windows [N, W, 1, L].

    `own` [N] are the true targets, by which the speeds of the steps are known.
    """
    told = rewards(view, own[:, None, None, None], targets)  # [N, W, 1, L, G]
    away = np.where(view.valid[..., None], (told - view.reward[..., None]) ** 2, 0).sum((2, 3))
    error = np.sqrt(away / view.valid.sum((2, 3))[..., None])
    return targets[error.argmin(-1)], error.min(-1)


def contexts_of(data, manifest, context):
    """Windows [N, K W, 1, L] of each task, W of each of its K sources that training draws from."""
    rows = jnp.broadcast_to(jnp.arange(len(data.count))[:, None], (len(data.count), STREAMS))
    views = []
    for k, source in enumerate(sources_in(manifest.policies, manifest.stages, [data])):
        if not source.name.startswith(choose.CROSS_TASK):
            own = store.restrict(data, source.policy, source.stage)
            key = jax.random.fold_in(jax.random.key(1), k)
            views.append(jax.device_get(contexts.draw(own, rows, context, key)))
    return jax.tree.map(lambda *x: np.concatenate(x, 1), *views)


def main() -> None:
    run = restore.restore(RUN)
    data_set = collect.data_set(run.cfg)
    data = store.load(data_set, PART, run.cfg)
    training = np.asarray(store.load(data_set, "train", run.cfg).task["velocity"])
    own, params = np.asarray(data.task["velocity"]), run.method.export(run.state)
    play = episodes.player(make_env(run.cfg), run.method.policy, 1)
    infer = jax.vmap(jax.vmap(lambda v: run.method.infer(params, None, {"velocity": v}, None)))

    def line(told: np.ndarray, **more) -> dict:
        """Returns under targets told, [N, W]."""
        played = play(params, infer(jnp.asarray(told)), data.task, jax.random.key(0))
        found = np.asarray(played.episode_return).mean((1, 2))
        return {"told": float(told.mean()), "per_task": found.tolist(), **more}

    lines = {"the true target": line(np.repeat(own[:, None], STREAMS, 1))}
    for speed in FIXED:
        lines[f"{speed:g} m/s"] = line(np.full((len(own), STREAMS), speed))
    context = contexts_of(data, data_set.manifest, run.method.context)
    for title, (low, high) in {
        "read among the targets of the training": (training.min(), training.max()),
        "read among all targets": (0.0, FASTEST),
    }.items():
        told, error = read(context, own, np.arange(low, high, GRID))
        lines[title] = line(told, alike=float((error <= ALIKE).mean()))
    report = {
        "command": COMMAND,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "targets": own.tolist(),
        "of_the_training": [float(training.min()), float(training.max())],
        "params_sha256": checkpoint.params_sha256(params_of(run.state)),
        "lines": lines,
    }
    files.write_json(cells.RESULTS / f"{LABEL}.json", report)
    tables.insert(cells.DOCS / "log.md", LABEL, table(report))
    print(table(report))


def table(report: dict) -> str:
    """One line for each way to be told a target."""
    rows = [("told", "m/s, mean", "return", f"contexts explained within {ALIKE} m/s")]
    for title, found in report["lines"].items():
        alike = f"{found['alike']:.0%}" if "alike" in found else "–"
        mean = f"{np.mean(found['per_task']):.1f}"
        rows.append((title, f"{found['told']:.2f}", mean, alike))
    return (
        f"{tables.markdown(rows)}\n\nCommand: `{COMMAND}`; file: "
        f"`experiments/results/{LABEL}.json`.\n"
    )


if __name__ == "__main__":
    main()
