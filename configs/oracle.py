"""The oracle: the conservative agent on the true task parameters. An upper bound for all others.

    metastar train --config=configs/oracle.py:point_robot_sparse,quick --workdir=runs/oracle

Two CPU cores, 2 minutes: return 51.7 of at most 51.9 (docs/results.md). Agent, rows and windows of
the evaluation are those of MetaSTAR's recipe, so that nothing but the code differs.
"""

from metastar import config

OURS = {
    "sampler.meta_batch": 10,
    "sampler.batch_size": 64,
    "sampler.normalize_obs": True,
    "agent.conservative.actor_lr": 1e-3,
    "agent.conservative.critic_lr": 1e-3,
    "agent.conservative.num_actions": 2,
    "agent.conservative.cql_states": 16,
    "agent.conservative.actor_average": 0.995,
    "train.lr_decay": "cosine",
}
PRESETS = {
    "": {**OURS, "train.eval_every": 5_000, "train.checkpoint_every": 5_000},
    "quick": {**OURS, "train.eval_every": 1_000, "train.checkpoint_every": 1_000},
    "debug": {
        **OURS,
        "oracle.context_len": 12,
        "sampler.meta_batch": 3,
        "sampler.batch_size": 16,
        "agent.conservative.hidden": (16, 16),
        "agent.conservative.cql_states": 8,
        "train.chunk": 4,
        "train.validate_every": 3,
        "train.eval_every": 8,
        "train.checkpoint_every": 4,
        "eval.windows": 3,
        "eval.zero_shot_streams": 2,
        "eval.curve_windows": 2,
    },
    "paper": {"sampler.with_replacement": True, "agent.conservative.tile_states": 64},
}
# No penalty on values, as configs/metastar.py says.
DENSE_REWARD = {"agent.conservative.penalty": "reward_uncertainty"}
CHEETAH = {
    "sampler.batch_size": 128,
    "agent.conservative.cloning": 3.0,
    "agent.conservative.alpha": 0.02,
    "agent.conservative.gamma": 0.97,
    "agent.conservative.tau": 0.01,
}
CHEETAHS = {
    "": {
        **CHEETAH,
        "oracle.context_len": 50,
        "agent.conservative.hidden": (256, 256),
        "train.eval_every": 10_000,
        "train.checkpoint_every": 10_000,
    },
    "quick": {
        **CHEETAH,
        "train.eval_every": 2_000,
        "train.checkpoint_every": 2_000,
        "eval.windows": 10,
    },
    "debug": {**CHEETAH, "sampler.batch_size": 16},
    "paper": {
        "oracle.context_len": 100,
        "agent.conservative.hidden": (256, 256),
        "agent.conservative.alpha": 0.2,
    },
}
DENSE_CHEETAHS = {
    **CHEETAHS,
    "": {**CHEETAHS[""], **DENSE_REWARD},
    "quick": {**CHEETAHS["quick"], **DENSE_REWARD},
}
WALKING_AGENT = {
    "agent.name": "iql",
    "agent.iql.hidden": (256, 256),
    "agent.iql.gamma": 0.97,
    "agent.iql.tau": 0.01,
    "agent.iql.actor_lr": 1e-3,
    "agent.iql.critic_lr": 1e-3,
    "agent.iql.value_lr": 1e-3,
    "agent.iql.actor_average": 0.995,
}
WALKING_DEBUG = {**WALKING_AGENT, "agent.iql.hidden": (16, 16)}
DENSE_POINT_ROBOTS = {
    "": {"sampler.batch_size": 128, **DENSE_REWARD},
    "quick": {"sampler.batch_size": 128, **DENSE_REWARD},
    "debug": {},
}
WALKING = {
    preset: {**values, **(WALKING_DEBUG if preset == "debug" else WALKING_AGENT)}
    for preset, values in DENSE_CHEETAHS.items()
}
FAMILIES = {
    "point_robot_sparse": {},
    "point_robot": DENSE_POINT_ROBOTS,
    "point_robot_wind": {
        preset: values if preset == "debug" else {**values, "oracle.context_len": 25}
        for preset, values in DENSE_POINT_ROBOTS.items()
    },
    "cheetah_vel": DENSE_CHEETAHS,
    "cheetah_vel_sparse": CHEETAHS,
    "cheetah_dir": {
        preset: {**values, "sampler.meta_batch": 2}
        for preset, values in {**WALKING, "paper": DENSE_CHEETAHS["paper"]}.items()
    },
    # The agent of configs/metastar.py there.
    "ant_dir": WALKING,
    "walker_param": WALKING,
    "hopper_mass": WALKING,
}


def get_config(argument: str = ""):
    return config.recipe("oracle", argument, PRESETS, FAMILIES)
