"""What does MetaSTAR's reward model tell under codes of tasks that rows are not of?

    metastar train --config=configs/metastar.py:cheetah_vel,quick \\
        --config.data.validation_tasks=6 --config.num_seeds=3 --workdir=runs/likelihood_cheetah_vel
    python experiments/other_codes.py

Rewards of Cheetah-Vel are a known function of the speed and its target, so that the reward of a
recorded row under any other target is known too. Rows of the training tasks are rated under codes
of each kind of task, by the model and as they are; and since a code need not be that of the task
that it is taken for, the target that the model's rewards fit best is asked of each, codes drawn as
`imagine.reach` draws them among them.

Withheld tasks and those out of distribution alone; test tasks are not looked at. Writes
`experiments/results/other_codes_cheetah_vel.json` and a table to `docs/log.md`. Call it from the
root of the checkout.
"""

from pathlib import Path

import cells
import jax
import jax.numpy as jnp
import numpy as np
from likelihood import RUN, with_ood

from metastar import config, files
from metastar.data import sampler
from metastar.envs.bodies import half_cheetah
from metastar.evaluation import likelihood
from metastar.models import other_codes
from metastar.tools.report import tables
from metastar.training import provenance, restore

NAME = "cheetah_vel"
LABEL = f"other_codes_{NAME}"
COMMAND = "python experiments/other_codes.py"
SPEED = 8  # the number of the forward speed in an observation
ROWS = 100  # of each training task
DRAWS = 10  # codes for each training task
REACHES = (1.0, 2.0, 3.0)
TARGETS = np.linspace(-1.0, 6.0, 351)  # m/s
PARTS = {
    "train": "training tasks",
    "test": "withheld tasks",
    "ood_moderate": "moderate tasks",
    "ood_extreme": "extreme tasks",
}


def rewards(view, own: float, targets):
    """The rewards [G] of a recorded step under `targets` [G] in m/s.

    Its own reward under the target `own` tells how far the speed was from it, and the observations
    on which side.
    """
    cost = half_cheetah.control_cost(jnp, view.action)
    near = (view.obs[SPEED] + view.next_obs[SPEED]) / 2
    speed = own + jnp.sign(near - own) * (-view.reward - cost)
    return -jnp.abs(speed - targets) - cost


def measured(run: restore.Restored) -> list[dict]:
    """A line for each kind of codes, of one seed."""
    tasks, params = with_ood(run), run.method.export(run.state)
    make_bank = likelihood.bank_maker(run.cfg.inference, run.method)
    key = jax.random.key(likelihood.SEED)
    bank = [np.asarray(make_bank(params, part, key)) for part in tasks.parts]
    speeds = [np.asarray(part.task["velocity"]) for part in tasks.parts]
    split = np.repeat(list(tasks.split), [len(ids) for ids in tasks.split.values()])
    code, target = np.concatenate(bank), np.concatenate(speeds)
    kinds = {PARTS[part]: (code[split == part], target[split == part]) for part in PARTS}
    for reach in REACHES:
        changed = config.change(run.cfg, {"imagine.reach": reach})
        drawn = other_codes.draw(jax.random.key(1), jnp.asarray(bank[0]), DRAWS, changed)
        kinds[f"drawn, reach {reach:g}"] = (np.asarray(drawn).reshape(-1, code.shape[-1]), None)

    train = tasks.train
    view = sampler.sample_transitions(train, jnp.arange(len(bank[0])), jax.random.key(2), ROWS)
    own = jnp.broadcast_to(train.task["velocity"][:, None], view.reward.shape)
    true = _over_rows(rewards)(view, own, jnp.asarray(TARGETS)).reshape(-1, len(TARGETS))

    def told(view, code):
        after = jnp.broadcast_to(view.next_obs, (len(code), *view.next_obs.shape))
        return run.method.task_model.reward(params, view.obs, view.action, after, code)

    lines = []
    for kind, (code, target) in kinds.items():
        rated = jax.jit(jax.vmap(jax.vmap(told, (0, None)), (0, None)))(view, jnp.asarray(code))
        rated = np.asarray(rated).reshape(-1, len(code))
        squared = (rated[:, None] - np.asarray(true)[..., None]) ** 2  # [rows, G, K]
        error = np.sqrt(squared.mean(0)) / run.spec.reward_std  # [G, K]
        best = error.argmin(0)
        line = {"codes": kind, "told": TARGETS[best].tolist(), "error": error.min(0).tolist()}
        if target is not None:
            at = np.abs(TARGETS[:, None] - target).argmin(0)
            line |= {
                "target": target.tolist(),
                "error_at_target": error[at, np.arange(len(code))].tolist(),
            }
        lines.append(line)
    return lines


def _over_rows(function):
    """A function of a row, its target and targets, of rows [N, ROWS]."""
    return jax.vmap(jax.vmap(function, (0, 0, None)), (0, 0, None))


def table(report: dict) -> str:
    """One line for each kind of codes; means over codes and seeds, and the largest target."""
    rows = [
        (
            *("codes of", "targets, m/s", "error of rewards", "told targets, m/s", "m/s off"),
            "error at the told target",
        )
    ]
    for lines in zip(*report["seeds"]):
        kind = lines[0]["codes"]
        told = np.array([x["told"] for x in lines])
        least = f"{np.mean([x['error'] for x in lines]):.2f}"
        spoken = f"{told.min():.2f} to {told.max():.2f}"
        if "target" in lines[0]:
            target = np.array([x["target"] for x in lines])
            off = f"{np.sqrt(np.mean((told - target) ** 2)):.2f}"
            error = f"{np.mean([x['error_at_target'] for x in lines]):.2f}"
            rows.append(
                (kind, f"{target.min():.2f} to {target.max():.2f}", error, spoken, off, least)
            )
        else:
            rows.append((kind, "–", "–", spoken, "–", least))
    return (
        f"{tables.markdown(rows)}\n\nCommand: `{COMMAND}`; file: "
        f"`experiments/results/{LABEL}.json`.\n"
    )


def main() -> None:
    trained = Path(RUN.format(name=NAME))
    report = {
        "command": COMMAND,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "seeds": [
            measured(restore.restore(folder)) for folder in sorted((trained / "seeds").glob("*"))
        ],
    }
    files.write_json(cells.RESULTS / f"{LABEL}.json", report)
    tables.insert(cells.DOCS / "log.md", LABEL, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
