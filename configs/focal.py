"""FOCAL: the mean of an encoder of transitions, and distances between tasks (arXiv 2010.01112).

    metastar train --config=configs/focal.py:point_robot_sparse,quick --workdir=runs/focal

The agent is implicit Q-learning (arXiv 2110.06169); `--config.agent.name=conservative` puts
MetaSTAR's in its place, with the settings of its presets.

Presets: "" (what we believe best), `quick` (a laptop's CPU), `debug` (seconds) and `paper`: FOCAL's
encoder, objective, sampling, rates and sizes. `paper` is not FOCAL in one thing: the reference
learns values and policy by BRAC, which is not in the house, and implicit Q-learning stands in.
"""

from metastar import config

# Ours: two independent contexts of every task, so that there are pairs of one task in every update
# whatever tasks are drawn; the reference's have none unless a task is drawn twice. Rates, rows and
# the averaged actor are those of MetaSTAR's recipe, so that encoder and objective are what differs.
OURS = {
    "task_losses.distance": 1.0,
    "sampler.windows": 2,
    "sampler.meta_batch": 10,
    "sampler.batch_size": 64,
    "sampler.normalize_obs": True,
    "contextual.encoder_lr": 1e-3,
    "train.lr_decay": "cosine",
}
AGENTS = {
    "iql": {
        "agent.iql.hidden": (128, 128),
        "agent.iql.actor_lr": 1e-3,
        "agent.iql.critic_lr": 1e-3,
        "agent.iql.value_lr": 1e-3,
        "agent.iql.actor_average": 0.995,
    },
}
PRESETS = {
    "": {**OURS, **AGENTS["iql"], "train.eval_every": 5_000, "train.checkpoint_every": 5_000},
    "quick": {**OURS, **AGENTS["iql"], "train.eval_every": 1_000, "train.checkpoint_every": 1_000},
    "debug": {
        **OURS,
        **AGENTS["iql"],
        "encoder.mean_mlp.hidden": (16, 16),
        "encoder.mean_mlp.code_dim": 3,
        "encoder.mean_mlp.context_len": 12,
        "sampler.meta_batch": 3,
        "sampler.batch_size": 16,
        "agent.iql.hidden": (16, 16),
        "train.chunk": 4,
        "train.eval_every": 8,
        "train.checkpoint_every": 4,
        "eval.windows": 3,
        "eval.zero_shot_streams": 2,
        "eval.curve_windows": 2,
    },
}


def get_config(argument: str = ""):
    return config.recipe("contextual", argument, PRESETS, {"point_robot_sparse": {}, "cheetah_vel": {}})
