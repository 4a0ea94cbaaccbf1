"""How many pairs of sources differ for a reader of Cheetah-Vel that cannot know the policy?

    metastar collect --config=configs/metastar.py:cheetah_vel,quick
    python experiments/precision.py

An ideal reader knows the reward function. Of each step of a window it sees the speed as it is and
the distance to the target with an error, and it gives the target by least squares. Where the errors
are independent, no policy enters but through how well its windows tell the task; where they are a
function of the speed, as those of a reward model are of the state, each policy has its own, though
the reader knows none.

On the windows of an audit, with its tests. Writes `experiments/results/precision_cheetah_vel.json`
and a table to `docs/log.md`.
"""

import cells
import jax
import jax.numpy as jnp
import numpy as np

from metastar import config, files
from metastar.collection import collect
from metastar.data import choose, contexts, store
from metastar.data.sources import sources
from metastar.tools.audit import audit
from metastar.tools.audit import codes as audit_codes
from metastar.tools.audit import measures as audit_measures
from metastar.tools.audit.codes import Codes
from metastar.tools.report import tables
from metastar.training import provenance
from metastar.types import Context

CONFIG = "configs/metastar.py:cheetah_vel,quick"
SPEED = 8  # the number of the forward speed in an observation
SIZES = (0.01, 0.03, 0.1, 0.3)  # of the errors, in standard deviations of the rewards
PERIOD = 0.5  # m/s
GRID = np.linspace(-1.0, 5.0, 601)  # m/s
LABEL = "precision_cheetah_vel"
COMMAND = "python experiments/precision.py"


def independent(speed, key):
    """Errors [...] of variance 1, whatever the speed."""
    return jax.random.normal(key, speed.shape)


def of_speed(speed, key):
    """Errors [...] of variance 1 that are one function of the speed in m/s for all windows."""
    return jnp.sqrt(2.0) * jnp.sin(2 * jnp.pi * speed / PERIOD)


ERRORS = {"independent": independent, "a function of the speed": of_speed}


def read(view, target, size, error_of, key):
    """The target speed by least squares, `[N, W, 1]`, of windows [N, W, 1, L]; `size` in m/s."""
    speed = (view.obs[..., SPEED] + view.next_obs[..., SPEED]) / 2
    away = jnp.abs(speed - target[:, None, None, None]) + size * error_of(speed, key)

    def error(guess):
        return jnp.where(view.valid, (jnp.abs(speed - guess) - away) ** 2, 0).sum((-2, -1))

    return jnp.asarray(GRID)[jax.lax.map(error, jnp.asarray(GRID)).argmin(0)][..., None]


def measured(draws, target, context: Context, test, names, error_of, size) -> dict:
    """The audit's energy distances for a reader, on test tasks; `size` of its errors in m/s."""
    rows = jnp.broadcast_to(jnp.arange(len(target))[:, None], (len(target), audit.WINDOWS // 2))
    codes, keep = [], []
    for k, draw in enumerate(draws):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(audit.SEED), k), 3)
        views = [
            contexts.draw(half, rows, context, key)
            for half, key in zip((draw.first, draw.second), keys)
        ]
        view = jax.tree.map(lambda *x: jnp.concatenate(x, 1), *views)
        codes.append(np.asarray(read(view, target, size, error_of, keys[2]))[test])
        keep.append(np.asarray(view.valid.any((-2, -1)))[test])
    code, keep = np.stack(codes, 1), np.stack(keep, 1)
    halved = np.stack([draw.halved for draw in draws], 1)[test]
    found = audit_measures.energy(Codes(code, keep, keep, halved, {}), names)
    error = np.sqrt(np.mean(((code - np.asarray(target)[test, None, None, None])[keep]) ** 2))
    return {
        "rmse": float(error),
        "pairs": found["pairs"]["share_differing"],
        "control": found["control"]["share_differing"],
    }


def table(report: dict) -> str:
    """One line a reader."""
    rows = [
        (
            "errors",
            "size, standard deviations of rewards",
            "m/s off",
            "pairs that differ",
            "control",
        )
    ]
    rows += [
        (
            *(x["errors"], f"{x['size']:.2f}", f"{x['rmse']:.3f}"),
            *(f"{x['pairs']:.0%}", f"{x['control']:.0%}"),
        )
        for x in report["readers"]
    ]
    return (
        f"{tables.markdown(rows)}\n\nCommand: `{COMMAND}`; file: "
        f"`experiments/results/{LABEL}.json`.\n"
    )


def main() -> None:
    cfg = config.load(CONFIG)
    data_set = collect.data_set(cfg)
    manifest, split = data_set.manifest, choose.split_ids(data_set.manifest, cfg)
    data = store.load(data_set, audit.SPLITS, cfg)
    test = np.repeat(
        [name == "test" for name in audit.SPLITS], [len(split[n]) for n in audit.SPLITS]
    )
    found = sources(manifest.policies, manifest.stages, *audit_codes.drawn_from(data))
    draws = [audit_codes.halves(data, source) for source in found]
    names = [source.name for source in found]
    context = Context(1, cfg.world_model.context_len, True)
    target = jnp.asarray(data.task["velocity"])
    real = np.arange(data.reward.shape[1]) < np.asarray(data.length).sum(1)[:, None]
    spread = float(np.asarray(data.reward)[real].std())
    report = {
        "command": COMMAND,
        "commit": provenance.commit(),
        "reward_std": spread,
        "readers": [
            {"errors": name, "size": size}
            | measured(draws, target, context, test, names, error_of, size * spread)
            for name, error_of in ERRORS.items()
            for size in SIZES
        ],
    }
    files.write_json(cells.RESULTS / f"{LABEL}.json", report)
    tables.insert(cells.DOCS / "log.md", LABEL, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
