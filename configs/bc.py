"""Context-conditioned behaviour cloning: what imitation alone gets out of the data. A bound.

    metastar train --config=configs/bc.py:cheetah_vel,quick --workdir=runs/bc

Two CPU cores, 3 minutes; it closes 31 % of the gap between uniform actions and the oracle
(docs/results.md). The encoder and the actor are those of MetaSTAR's recipe, and so are the presets.
"""

from metastar import config

OURS = {
    "world_model.code_dim": 16,
    "world_model.code_bound": "sphere",
    "sampler.meta_batch": 10,
    "sampler.batch_size": 64,
    "sampler.normalize_obs": True,
    "bc.encoder_lr": 1e-3,
    "bc.actor_lr": 1e-3,
    "bc.actor_average": 0.995,
    "train.lr_decay": "cosine",
}
PRESETS = {
    "": {**OURS, "train.eval_every": 5_000, "train.checkpoint_every": 5_000},
    "quick": {
        **OURS,
        "world_model.width": 64,
        "train.eval_every": 1_000,
        "train.checkpoint_every": 1_000,
    },
    "debug": {
        **OURS,
        "world_model.latent_dim": 4,
        "world_model.width": 16,
        "world_model.num_layers": 1,
        "world_model.num_heads": 2,
        "world_model.context_len": 12,
        "world_model.code_dim": 3,
        "sampler.meta_batch": 3,
        "sampler.batch_size": 16,
        "bc.hidden": (16, 16),
        "train.chunk": 4,
        "train.validate_every": 3,
        "train.eval_every": 8,
        "train.checkpoint_every": 4,
        "eval.windows": 3,
        "eval.zero_shot_streams": 2,
        "eval.curve_windows": 2,
    },
    "paper": {"sampler.with_replacement": True, "sampler.hold_updates": 200},
}
POINT_ROBOT = {
    "world_model.code_dim": 3,
    "world_model.latent_init": "precise",
    "bc.encoder_lr": 3e-3,
    "sampler.batch_size": 128,
}
CHEETAHS = {
    "": {
        "world_model.latent_dim": 32,
        "world_model.context_len": 50,
        "sampler.batch_size": 128,
        "bc.hidden": (256, 256),
        "train.eval_every": 10_000,
        "train.checkpoint_every": 10_000,
    },
    "quick": {
        "sampler.batch_size": 128,
        "train.eval_every": 2_000,
        "train.checkpoint_every": 2_000,
        "eval.windows": 10,
    },
    "debug": {},
    "paper": {
        "world_model.latent_dim": 32,
        "world_model.width": 256,
        "world_model.context_len": 100,
        "bc.hidden": (256, 256),
    },
}
DENSE_POINT_ROBOTS = {
    "": POINT_ROBOT,
    "quick": POINT_ROBOT,
    "debug": {**POINT_ROBOT, "sampler.batch_size": 16},
}
PRECISE = {"world_model.latent_init": "precise"}
PREDICTS = {
    "world_model.latent_init": "precise",
    "world_model.prior": "change",
    "world_model.skip": True,
    "world_model.condition": "concat",
    "world_model.latent_dim": 32,
}
PREDICTING = CHEETAHS | {preset: {**CHEETAHS[preset], **PREDICTS} for preset in ("", "quick")}
# As wide as the actors of MetaSTAR there.
WALKING = PREDICTING | {"quick": {**PREDICTING["quick"], "bc.hidden": (256, 256)}}
FAMILIES = {
    "point_robot_sparse": {"": PRECISE, "quick": PRECISE},
    "point_robot": DENSE_POINT_ROBOTS,
    "point_robot_wind": {
        preset: values if preset == "debug" else {**values, "world_model.context_len": 25}
        for preset, values in DENSE_POINT_ROBOTS.items()
    },
    "cheetah_vel": PREDICTING,
    "cheetah_vel_sparse": PREDICTING,
    "cheetah_dir": {
        preset: {**values, "sampler.meta_batch": 2} for preset, values in WALKING.items()
    },
    "ant_dir": WALKING,
    "walker_param": WALKING,
    "hopper_mass": WALKING,
}


def get_config(argument: str = ""):
    return config.recipe("bc", argument, PRESETS, FAMILIES)
