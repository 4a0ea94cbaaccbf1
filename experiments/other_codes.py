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


def rewards(view, own: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rewards [..., G] of recorded steps [...] under `targets` [G] in m/s.

    A step's own reward under its target `own` [...] tells how far the speed was from it, and the
    observations on which side.
    """
    cost = half_cheetah.control_cost(np, view.action)
    near = (view.obs[..., SPEED] + view.next_obs[..., SPEED]) / 2
    speed = own + np.sign(near - own) * (-view.reward - cost)
    return -np.abs(speed[..., None] - targets) - cost[..., None]


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
    view = jax.device_get(view)
    true = rewards(view, np.asarray(train.task["velocity"])[:, None], TARGETS)
    true = true.reshape(-1, len(TARGETS))
    steps = [x.reshape(len(true), -1) for x in (view.obs, view.action, view.next_obs)]

    @jax.jit
    def rate(steps, code):
        def told(obs, action, next_obs):
            after = jnp.broadcast_to(next_obs, (len(code), *next_obs.shape))
            return run.method.task_model.reward(params, obs, action, after, code)

        return jax.vmap(told)(*steps)

    lines = []
    for kind, (code, target) in kinds.items():
        rated = np.asarray(rate(steps, code))
        squared = (rated[:, None] - true[..., None]) ** 2  # [rows, G, K]
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
