"""CSRO: FOCAL's distances, less what codes tell of behaviour within a task (Zhang et al. 2023).

    metastar train --config=configs/csro.py:point_robot_sparse,quick --workdir=runs/csro

It is `configs/focal.py` with a second task loss, `club` on codes of single transitions, an upper
bound on their information about state and action. At test time its agent explores without a prior,
which is the protocol `non_prior`. Few-shot return 25 of at most 52, where FOCAL has 22
(docs/systems.md). Nothing is tuned beside the weights of the paper.

Presets: "" (ours), `quick` (a laptop's CPU), `debug` (seconds) and `paper`: the sizes, weights and
rates of the released code, with its agent, BRAC.
"""

from metastar import config

OURS = {
    "task_losses.club": 1.0,  # as much as the distances, the paper's share on Cheetah-Vel
    "club.codes": "transition",
    "club.lr": 3e-4,
    "eval.protocols": "few_shot,zero_shot,non_prior",
}
PRESETS = {
    "": OURS,
    "quick": OURS,
    "debug": {**OURS, "club.width": 16},
    "paper": {
        **OURS,
        "task_losses.club": 25.0,
        "club.width": 200,
        "sampler.with_replacement": False,
        "agent.brac.divergence": "updated",
        "train.updates": 105_000,  # 105 iterations of 1000 updates
    },
}
CHEETAHS = {"paper": {"task_losses.club": 10.0}}
POINTS = {"paper": {"train.updates": 65_000}}
FAMILIES = {
    **dict.fromkeys(("point_robot", "point_robot_sparse", "point_robot_wind"), POINTS),
    "cheetah_vel": CHEETAHS,
    "cheetah_vel_sparse": CHEETAHS,
    # Two tasks, of which an update can have four only if it draws them with replacement.
    "cheetah_dir": {"paper": {**CHEETAHS["paper"], "sampler.with_replacement": True}},
}


def get_config(argument: str = ""):
    cfg = config.load_preset(f"focal.py:{argument}")
    return config.change(
        cfg, PRESETS[cfg.preset] | FAMILIES.get(cfg.family, {}).get(cfg.preset, {})
    )
