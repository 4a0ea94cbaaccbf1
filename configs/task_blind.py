"""The task-blind agent: IQL on the data of all tasks as if they were one. A bound for all others.

    metastar train --config=configs/task_blind.py:point_robot_sparse,quick --workdir=runs/task_blind

Agent, rows and contexts are those of `configs/focal.py`, so that nothing but the code differs;
`--config.agent.name=conservative` has MetaSTAR's agent.
"""

from metastar import config

OURS = {
    "sampler.meta_batch": 10,
    "sampler.batch_size": 64,
    "sampler.normalize_obs": True,
    "agent.iql.actor_lr": 1e-3,
    "agent.iql.critic_lr": 1e-3,
    "agent.iql.value_lr": 1e-3,
    "agent.iql.actor_average": 0.995,
    "train.lr_decay": "cosine",
}
PRESETS = {
    "": {**OURS, "train.eval_every": 5_000, "train.checkpoint_every": 5_000},
    "quick": {**OURS, "train.eval_every": 1_000, "train.checkpoint_every": 1_000},
    "debug": {
        **OURS,
        "task_blind.context_len": 12,
        "sampler.meta_batch": 3,
        "sampler.batch_size": 16,
        "agent.iql.hidden": (16, 16),
        "train.chunk": 4,
        "train.validate_every": 3,
        "train.eval_every": 8,
        "train.checkpoint_every": 4,
        "eval.windows": 3,
        "eval.zero_shot_streams": 2,
        "eval.curve_windows": 2,
    },
    "paper": {"sampler.with_replacement": True},
}
POINT_ROBOT = {preset: {"sampler.batch_size": 128} for preset in ("", "quick")}
CHEETAH = {
    "task_blind.context_len": 100,
    "sampler.batch_size": 128,
    "agent.iql.gamma": 0.97,
}
CHEETAHS = {
    "": {**CHEETAH, "train.eval_every": 10_000, "train.checkpoint_every": 10_000},
    "quick": {
        **CHEETAH,
        "train.eval_every": 2_000,
        "train.checkpoint_every": 2_000,
        "eval.windows": 10,
    },
}
FAMILIES = {
    "point_robot_sparse": {},
    "point_robot": POINT_ROBOT,
    # Contexts of an episode, which a zero-shot stream can fill.
    "point_robot_wind": {
        preset: {**POINT_ROBOT.get(preset, {}), "task_blind.context_len": 25}
        for preset in ("", "quick", "paper")
    },
    "cheetah_vel": CHEETAHS,
    "cheetah_vel_sparse": CHEETAHS,
    "cheetah_dir": {
        preset: {**CHEETAHS.get(preset, {}), "sampler.meta_batch": 2} for preset in PRESETS
    },
}


def get_config(argument: str = ""):
    return config.recipe("task_blind", argument, PRESETS, FAMILIES)
