"""How much of the goal do the windows of each behaviour tell at all? Dense Point-Robot.

    python experiments/ambiguity.py

Rewards are minus the distance to the goal, so that positions that spread in two dimensions tell it,
and a robot that stands or walks along a line leaves a circle or two points. An observer who knows
this, takes goals as uniform on the square and resolves rewards to a standard deviation of
`RESOLUTION` has the posterior mean of the goal; no encoder of that resolution errs less. On windows
of the test tasks of `sweeps/invariance.py`; writes `experiments/results/ambiguity.json` and a
table to `docs/results.md`.
"""

from collections.abc import Callable

import cells
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from sweeps.invariance import MIXED

from metastar import config as config_room
from metastar import files
from metastar.collection import collect
from metastar.data import store
from metastar.data.sampler import sample_windows
from metastar.data.sources import sources_in
from metastar.tools.report import tables
from metastar.training import provenance
from metastar.types import Array, View

PAGE, LABEL = cells.DOCS / "results.md", "ambiguity"
OUT = cells.RESULTS / f"{LABEL}.json"
WINDOWS = 16  # of each task and source
RESOLUTION = (0.02, 0.05, 0.1)  # length units
GRID = 161  # goals along each side of the square


def config() -> ConfigDict:
    """The config whose data set it is."""
    cfg = config_room.load_preset("configs/metastar.py:point_robot,quick")
    cfg.update_from_flattened_dict(MIXED["point_robot"])
    return cfg


def make_observer(resolution: float) -> Callable[[View], Array]:
    """Builds `windows [N, W, L] -> posterior means of the goal [N, W, 2]`, jitted."""
    side = jnp.linspace(-1, 1, GRID)
    goal = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)

    def of_window(view):
        distance = jnp.linalg.norm(view.next_obs[:, None] - goal[None], axis=-1)  # [L, G]
        miss = jnp.where(view.valid[:, None], view.reward[:, None] + distance, 0)
        return jax.nn.softmax(-0.5 * jnp.square(miss / resolution).sum(0)) @ goal

    return jax.jit(lambda views: jax.lax.map(jax.vmap(of_window), views))


def measure(cfg: ConfigDict) -> dict:
    """RMSE and R² of the posterior mean on the test tasks, by source and resolution."""
    data_set = collect.data_set(cfg)
    manifest, data = data_set.manifest, store.load(data_set, "test", cfg)
    goal = np.asarray(data.task["goal"])[:, None]  # [N, 1, 2]
    task_id = jnp.broadcast_to(jnp.arange(len(goal))[:, None], (len(goal), WINDOWS))
    spread = np.square(goal - goal.mean(0)).sum(-1).mean()
    observers = {resolution: make_observer(resolution) for resolution in RESOLUTION}
    found = {}
    for source in sources_in(manifest.policies, manifest.stages, [data]):
        own = store.restrict(data, source.policy, source.stage)
        view = sample_windows(own, task_id, jax.random.key(0), cfg.world_model.context_len)
        found[source.name] = {}
        for resolution, observe in observers.items():
            miss = np.square(np.asarray(observe(view)) - goal).sum(-1).mean()
            scores = {"rmse": float(np.sqrt(miss)), "r2": float(1 - miss / spread)}
            found[source.name][str(resolution)] = scores
    return found


def table(report: dict) -> str:
    """One line per source."""
    head = ("windows from", *(f"R² at {r} (RMSE)" for r in RESOLUTION))
    rows = [
        (name, *(f"{block['r2']:.3f} ({block['rmse']:.3f})" for block in found.values()))
        for name, found in report["sources"].items()
    ]
    return tables.markdown([head, *rows]) + "\n"


def main() -> None:
    report = {
        "command": "python experiments/ambiguity.py",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "windows": WINDOWS,
        "sources": measure(config()),
    }
    files.write_json(OUT, report)
    tables.insert(PAGE, LABEL, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
