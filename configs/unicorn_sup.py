"""UNICORN-SUP: codes that name the training task they come from, and no other objective.

    metastar train --config=configs/unicorn_sup.py:point_robot_sparse,quick --workdir=runs/sup

Li et al. 2024 (NeurIPS, arXiv 2402.02429), who describe it and released no code for it. It is
`configs/unicorn_ss.py` with the task loss `classification` in place of both others; the size of the
classifier is not published, ours is linear and that of `paper` has two hidden layers. Nothing is
tuned; few-shot return 43 of at most 52 (docs/systems.md).

Presets: "" (ours), `quick` (a laptop's CPU), `debug` (seconds) and `paper`.
"""

from metastar import config

OURS = {
    "task_losses.distance": 0.0,
    "task_losses.reconstruction": 0.0,
    "task_losses.classification": 1.0,
}
PRESETS = {
    "": OURS,
    "quick": OURS,
    "debug": OURS,
    "paper": {**OURS, "classification.layers": 2, "classification.width": 64},
}


def get_config(argument: str = ""):
    cfg = config.load_preset(f"unicorn_ss.py:{argument}")
    return config.change(cfg, PRESETS[cfg.preset])
