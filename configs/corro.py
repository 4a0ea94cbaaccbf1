"""CORRO: transition codes by a contrast with generated negatives, pooled by what critics learn
(Yuan and Lu 2022, ICML, arXiv 2206.10442).

    metastar train --config=configs/corro.py:point_robot_sparse,quick --workdir=runs/corro

Negatives are drawn by a generator of answers, which a phase of its own trains;
`--config.corro.negatives=noised` has rewards with noise in their place, which the paper's own table
finds as good where tasks differ in rewards. Where these are 0 or 1 the contrast tells generated
rewards from real ones and learns no task (docs/log.md).

Presets: "" (ours), `quick` (a laptop's CPU), `debug` (seconds) and `paper`: the sizes, rates and
sampling of the released code, with its agent, SAC without a term against actions that the data
lack. Its data are those of every `paper` here; its authors have the whole replay of a SAC run.
"""

from metastar import config

# CORRO's encoder sees s' too and has no bound, since its codes get length 1.
CODES = {"encoder.mean_mlp.inputs": "dynamics", "encoder.mean_mlp.bound": "none"}
# The sampling, agent and rates of `configs/focal.py`, so that encoder and objective differ.
OURS = {
    **CODES,
    "encoder.mean_mlp.hidden": (128, 128),
    "encoder.mean_mlp.code_dim": 16,
    "corro.encoder_lr": 3e-4,  # at 1e-3 all codes became one, and the contrast log(1 + K)
    "corro.generator_lr": 1e-3,
    "corro.pooling_lr": 1e-3,
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
    "quick": {
        **OURS,
        "corro.contrast_updates": 4_000,
        "corro.generator_updates": 4_000,
        "train.eval_every": 1_000,
        "train.checkpoint_every": 1_000,
    },
    "debug": {
        **OURS,
        "encoder.mean_mlp.hidden": (16, 16),
        "encoder.mean_mlp.code_dim": 3,
        "encoder.mean_mlp.context_len": 12,
        "generator.hidden": (16,),
        "generator.latent_dim": 2,
        "corro.contrast_updates": 6,
        "corro.generator_updates": 6,
        "corro.generator_batch": 8,
        "corro.pairs": 6,
        "corro.num_negatives": 3,
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
    "paper": {
        **CODES,
        "encoder.mean_mlp.hidden": (64, 64),
        "encoder.mean_mlp.code_dim": 5,
        "encoder.mean_mlp.context": "window",  # a trajectory
        "corro.contrast_updates": 200_000,
        "sampler.with_replacement": True,
        "agent.name": "sac",
        "agent.sac.hidden": (256, 256),
        "agent.sac.alpha": 0.2,
        "agent.sac.gamma": 0.99,
        "train.updates": 200_000,
    },
}
# The generator makes 100 passes, 128 rows at a time, over the authors' data: 20 tasks of 210
# episodes of 10 steps, for the cheetah of 1050 of 200.
POINT_PAPER = {
    "encoder.mean_mlp.context_len": 60,
    "agent.sac.hidden": (64, 64),
    "corro.generator_updates": 32_813,
}
CHEETAH_PAPER = {"encoder.mean_mlp.context_len": 200, "corro.generator_updates": 3_281_250}
POINT_ROBOT = {
    "": {"sampler.batch_size": 128},
    "quick": {"sampler.batch_size": 128},
    "paper": POINT_PAPER,
}
# Twice the rows and a shorter horizon, as MetaSTAR's recipe has it for the cheetahs.
CHEETAH = {
    "encoder.mean_mlp.context_len": 100,
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
    "paper": CHEETAH_PAPER,
}
FAMILIES = {
    "point_robot_sparse": {"paper": POINT_PAPER},
    "point_robot": POINT_ROBOT,
    # Contexts of an episode, which a zero-shot stream can fill.
    "point_robot_wind": {
        preset: {**values, "encoder.mean_mlp.context_len": 25}
        for preset, values in POINT_ROBOT.items()
    },
    "cheetah_vel": CHEETAHS,
    "cheetah_vel_sparse": CHEETAHS,
    # Two tasks; the 16 slots of `paper` are drawn with replacement.
    "cheetah_dir": {
        **{preset: {**values, "sampler.meta_batch": 2} for preset, values in CHEETAHS.items()},
        "debug": {"sampler.meta_batch": 2},
        "paper": CHEETAHS["paper"],
    },
}


def get_config(argument: str = ""):
    return config.recipe("corro", argument, PRESETS, FAMILIES)
