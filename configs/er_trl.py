"""ER-TRL: FOCAL's distances, and a large entropy of the actions that a generator makes of the code.

    metastar train --config=configs/er_trl.py:point_robot_sparse,quick --workdir=runs/er_trl

It is `configs/focal.py` with a second task loss, `conditional_entropy`, whose opponent are the two
adversarial networks. Few-shot return 27 of at most 52, where FOCAL has 22 (docs/systems.md).
Nothing is tuned beside the weights of the paper.

Presets: "" (ours), `quick` (a laptop's CPU), `debug` (seconds) and `paper`: the sizes, weights and
order of the released code, with its agent, BRAC. It has no point robots; there, encoder and agent
are as FOCAL has them.
"""

from metastar import config

# Half of the distances' weight, as in the paper; a quarter on Cheetah-Vel.
OURS = {
    "task_losses.conditional_entropy": 0.5,
    "conditional_entropy.lr": 2e-4,
    "conditional_entropy.inner_steps": 5,
    "conditional_entropy.turns": "one_by_one",
    "conditional_entropy.rows": 64,
}
PRESETS = {
    "": OURS,
    "quick": OURS,
    "debug": {**OURS, "conditional_entropy.width": 16, "conditional_entropy.inner_steps": 2},
    "paper": {
        **OURS,
        "task_losses.conditional_entropy": 5.0,
        "conditional_entropy.width": 200,
        "conditional_entropy.generator_layers": 3,
        "conditional_entropy.discriminator_width": 256,
        "conditional_entropy.noise_dim": 20,
        "conditional_entropy.rows": 256,
        "sampler.with_replacement": False,
        "agent.brac.divergence": "updated",
        "train.updates": 200_000,  # 100 iterations of 2000 updates
    },
}
CHEETAH = {"task_losses.conditional_entropy": 0.25}
CHEETAHS = {
    "": CHEETAH,
    "quick": CHEETAH,
    "paper": {"task_losses.conditional_entropy": 2.5, "train.updates": 100_000},  # 100 of 1000
}
FAMILIES = {
    "cheetah_vel": CHEETAHS,
    "cheetah_vel_sparse": CHEETAHS,
    # Two tasks, of which an update can have four only if it draws them with replacement.
    "cheetah_dir": {
        **CHEETAHS,
        "paper": {**CHEETAHS["paper"], "train.updates": 200_000, "sampler.with_replacement": True},
    },
}


def get_config(argument: str = ""):
    cfg = config.load_preset(f"focal.py:{argument}")
    return config.change(
        cfg, PRESETS[cfg.preset] | FAMILIES.get(cfg.family, {}).get(cfg.preset, {})
    )
