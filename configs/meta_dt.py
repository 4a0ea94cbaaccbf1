"""Meta-DT: a Transformer over returns-to-go, conditioned by a world model's codes and a prompt.

    metastar train --config=configs/meta_dt.py:point_robot_sparse,quick --workdir=runs/meta_dt

The choice of episodes and the rate are tuned, a little; docs/systems.md has its returns.

Its own protocols stand beside the usual two: `first_episode` acts from the first step of the first
episode, without a prompt (the paper's zero-shot), and `own_episodes` has a prompt from
`eval.shots` own episodes, by default 3 (the paper's few-shot counts none: its prompts come from all
earlier evaluations). Under `few_shot` the prompt is cut from recorded data of the task. Under
`zero_shot` the first episode is uniform actions, from which comes the prompt of the second.

Presets: "" (what we believe best), `quick` (a laptop's CPU), `debug` (seconds) and `paper`: sizes,
rates, numbers of updates and habits of the released code, of which the methods page says what is
not followed. Its passes over the data are counted on data as large as those of its authors.

Ablations: `--config.meta_dt.use_model=False --config.prompt.choice=random`,
`--config.prompt.choice=none`, `--config.prompt.length=3`, `--config.world_model.history=8`.
"""

from metastar import config

PROTOCOLS = {"eval.protocols": "few_shot,zero_shot,first_episode,own_episodes"}
OURS = {
    **PROTOCOLS,
    "sampler.meta_batch": 10,
    "sampler.batch_size": 8,
    "sampler.normalize_obs": True,
    "train.lr_decay": "cosine",
    # Sequences of uniform actions and beginners leave the return that is asked for without effect
    # (docs/log.md).
    "meta_dt.candidates": 4,
    "meta_dt.lr": 1e-3,
}
PRESETS = {
    "": {**OURS, "train.eval_every": 5_000, "train.checkpoint_every": 5_000},
    "quick": {
        **OURS,
        "sampler.batch_size": 4,
        "transformer.width": 64,
        "transformer.num_layers": 2,
        "world_model.width": 64,
        "world_model.decoder_width": 64,
        "world_model.rows": 4,
        "train.pretrain_updates": 2_000,
        "train.updates": 5_000,
        "train.eval_every": 1_000,
        "train.checkpoint_every": 1_000,
    },
    "debug": {
        **OURS,
        "eval.protocols": "few_shot,zero_shot",
        "transformer.width": 16,
        "transformer.num_layers": 2,
        "meta_dt.context_len": 6,
        "acting.kept": 3,
        "prompt.length": 3,
        "world_model.code_dim": 3,
        "world_model.width": 16,
        "world_model.decoder_width": 16,
        "sampler.meta_batch": 3,
        "sampler.batch_size": 4,
        "train.pretrain_updates": 8,
        "train.chunk": 4,
        "train.validate_every": 3,
        "train.eval_every": 8,
        "train.checkpoint_every": 4,
        "eval.windows": 3,
        "eval.zero_shot_streams": 2,
        "eval.curve_windows": 2,
    },
    "paper": {
        **PROTOCOLS,
        "sampler.meta_batch": 64,  # 128 sequences; an update here shares a prompt between two
        "sampler.batch_size": 2,
        "sampler.with_replacement": True,
        "sampler.normalize_obs": True,
        "acting.kept": 19,
        "acting.early_codes": "zeros",
        "prompt.share": 1.0,
        "prompt.after": 20_001,
        "prompt.error": "tail",
        "prompt.normalized_target": True,
        "meta_dt.lr": 1e-4,
        "meta_dt.lr_warmup": 10_000,
        "meta_dt.target": "context",
        "train.pretrain_updates": 212_000,  # 301 passes over 45 tasks of 2000 rows, 128 at a time
        "train.updates": 100_000,
    },
}
POINTS = {preset: {"eval.reinfer_every": 60} for preset in PRESETS}
CHEETAHS = {preset: {"eval.reinfer_every": 200} for preset in PRESETS}
for preset, own in CHEETAHS.items():
    own["meta_dt.return_scale"] = 500.0 if preset == "paper" else 100.0
PASSES = {"train.pretrain_updates": 4_226_000}  # 601, over 45 tasks of 20 000 rows
for preset in ("", "quick"):
    every = {"": 10_000, "quick": 2_500}[preset]
    CHEETAHS[preset] |= {"train.eval_every": every, "train.checkpoint_every": every}
    CHEETAHS[preset]["meta_dt.candidates"] = 16  # with 4 it nearly stands still
CHEETAHS["quick"] |= {"eval.windows": 10}
VELOCITY = CHEETAHS | {
    "paper": {**CHEETAHS["paper"], **PASSES, "meta_dt.lr": 5e-5, "train.updates": 200_000}
}
FAMILIES = {
    "point_robot_sparse": POINTS,
    "point_robot": POINTS,
    # Tasks differ in dynamics.
    "point_robot_wind": {
        preset: {"eval.reinfer_every": 25, "world_model.predicts": "next_obs"} for preset in PRESETS
    },
    "cheetah_vel": VELOCITY,
    "cheetah_vel_sparse": VELOCITY,
    # Two tasks.
    "cheetah_dir": {
        **{
            preset: {**CHEETAHS[preset], "sampler.meta_batch": 2, "sampler.batch_size": 40}
            for preset in ("", "quick")
        },
        "debug": {**CHEETAHS["debug"], "sampler.meta_batch": 2},
        "paper": {**CHEETAHS["paper"], **PASSES, "meta_dt.lr": 6e-6},
    },
}


def get_config(argument: str = ""):
    return config.recipe("meta_dt", argument, PRESETS, FAMILIES)
