"""UNICORN-SS: codes that reconstruct rewards and next states, with distances between tasks.

    metastar train --config=configs/unicorn_ss.py:point_robot_sparse,quick --workdir=runs/unicorn_ss

Li et al. 2024 (NeurIPS, arXiv 2402.02429). It is `configs/focal.py` with a second task loss,
`reconstruction`, and a small weight on the distances. In ours each of two contexts is predicted
from the code of the other, the reward's head sees the next state, and means are fitted as by
squared errors. Few-shot return 37 of at most 52 (docs/systems.md). Nothing is tuned.

Presets: "" (ours), `quick` (a laptop's CPU), `debug` (seconds) and `paper`: sizes, weights and the
sampled code of the released code, and its agent, which on these families is soft actor-critic
without any term for given data (entropy weight 0.2, on Cheetah-Vel 0). The paper names BRAC;
`--config.agent.name=brac` has it with our defaults.
"""

from metastar import config

OURS = {
    "task_losses.distance": 0.15,
    "task_losses.reconstruction": 1.0,
    "reconstruction.variance_power": 1.0,
}
PRESETS = {
    "": OURS,
    "quick": OURS,
    "debug": {**OURS, "reconstruction.width": 16},
    "paper": {
        "task_losses.distance": 0.15,
        "task_losses.reconstruction": 1.0,
        "reconstruction.width": 64,
        "reconstruction.reward_given": "action",
        "encoder.mean_mlp.hidden": (64, 64),
        "encoder.mean_mlp.code_dim": 5,
        "encoder.mean_mlp.inputs": "terminal",
        "encoder.mean_mlp.sampled": True,
        "encoder.mean_mlp.context": "window",  # a trajectory
        "encoder.mean_mlp.context_len": 60,
        "agent.name": "sac",
        "agent.sac.hidden": (256, 256),
        "agent.sac.alpha": 0.2,
        "train.updates": 200_000,
    },
}
CHEETAHS = {"paper": {"encoder.mean_mlp.context_len": 200, "agent.sac.alpha": 0.0}}
FAMILIES = {
    "point_robot_wind": {"paper": {"encoder.mean_mlp.context_len": 25}},
    "cheetah_vel": CHEETAHS,
    "cheetah_vel_sparse": CHEETAHS,
    "cheetah_dir": {
        "paper": {"encoder.mean_mlp.context_len": 200, "task_losses.distance": 0.01},
    },
}


def get_config(argument: str = ""):
    cfg = config.load_preset(f"focal.py:{argument}")
    return config.change(
        cfg, PRESETS[cfg.preset] | FAMILIES.get(cfg.family, {}).get(cfg.preset, {})
    )
