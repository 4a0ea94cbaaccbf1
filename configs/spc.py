"""SPC: a context encoder trained by a latent world model, IQL on its codes (arXiv 2603.02935).

    metastar train --config=configs/spc.py:point_robot_sparse,quick --workdir=runs/spc

Two CPU cores, about 7 minutes: few-shot return 39 of at most 52, zero-shot 7 (docs/systems.md). Not
tuned.

Presets: "" (what we believe best), `quick` (a laptop's CPU), `debug` (seconds) and `paper`, which
has SPC's sizes, rates, sampling and habits: LayerNorm and Mish everywhere, raw observations, steps
into a terminal left out of the model's loss, the last context of a task drawn twice. `paper` is not
SPC in its data, which are those of every `paper` here and not those of its authors. Its code has
the context without the next observation by default, and with it where tasks differ in dynamics.

Its ablation of the world model (Fig. 4): `--config.world_model.kind=continuous_mse`, and so on.
`world_model.matched_width` makes their latents as wide as those of `discrete_ce`; in `paper` they
are half as wide, as in SPC's code.
"""

from metastar import config

# SPC's networks and habits in our sampling: distinct tasks, normalised observations, an averaged
# actor and decaying rates, as in the recipes of the other methods. Smaller nets for a CPU.
OURS = {
    "encoder.mean_mlp.layers": "norm_mish",
    "agent.iql.layers": "norm_mish",
    "sampler.meta_batch": 10,
    "sampler.batch_size": 80,
    "sampler.normalize_obs": True,
    "agent.iql.actor_average": 0.995,
    "spc.encoder_lr": 3e-4,
    "world_model.groups": 64,
    "world_model.encoder_hidden": (128,),
    "world_model.hidden": (128, 128),
    "world_model.lr": 3e-4,
    "train.lr_decay": "cosine",
}
PRESETS = {
    "": {**OURS, "train.eval_every": 5_000, "train.checkpoint_every": 5_000},
    "quick": {
        **OURS,
        "world_model.groups": 32,
        "world_model.encoder_hidden": (64,),
        "world_model.hidden": (64, 64),
        "train.eval_every": 1_000,
        "train.checkpoint_every": 1_000,
    },
    "debug": {
        **OURS,
        "encoder.mean_mlp.hidden": (16, 16),
        "encoder.mean_mlp.code_dim": 3,
        "encoder.mean_mlp.context_len": 12,
        "world_model.groups": 4,
        "world_model.encoder_hidden": (16,),
        "world_model.hidden": (16, 16),
        "world_model.horizon": 3,
        "sampler.meta_batch": 3,
        "sampler.batch_size": 18,
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
        "encoder.mean_mlp.layers": "norm_mish",
        "encoder.mean_mlp.hidden": (256, 256),
        "agent.iql.layers": "norm_mish",
        "agent.iql.advantage_value": "previous",
        "agent.iql.gamma": 0.99,
        "sampler.with_replacement": True,
        "sampler.batch_size": 320,
        "spc.repeated": "last",
        "world_model.mask_terminals": True,
        "world_model.matched_width": False,
        "train.updates": 500_000,
    },
}
CHEETAHS = {
    preset: {
        "agent.iql.gamma": 0.97,
        "train.eval_every": 10_000 if preset == "" else 2_000,
        "train.checkpoint_every": 10_000 if preset == "" else 2_000,
        **({"eval.windows": 10} if preset == "quick" else {}),
    }
    for preset in ("", "quick")
}
FAMILIES = {
    "point_robot_sparse": {},
    "point_robot": {},
    # Contexts of an episode, which a zero-shot stream can fill.
    "point_robot_wind": {
        preset: {
            "encoder.mean_mlp.inputs": "dynamics",
            **({} if preset == "debug" else {"encoder.mean_mlp.context_len": 25}),
        }
        for preset in PRESETS
    },
    "cheetah_vel": CHEETAHS,
    "cheetah_vel_sparse": CHEETAHS,
    # Two tasks; the paper's 16 slots are drawn with replacement.
    "cheetah_dir": {
        preset: {
            **CHEETAHS.get(preset, {}),
            **({} if preset == "paper" else {"sampler.meta_batch": 2}),
        }
        for preset in PRESETS
    },
}


def get_config(argument: str = ""):
    return config.recipe("spc", argument, PRESETS, FAMILIES)
