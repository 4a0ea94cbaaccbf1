"""IDAQ: FOCAL's agent, tested where it explores in distribution for several episodes (Wang et al.
2023, ICML, arXiv 2305.19529).

    metastar train --config=configs/idaq.py:point_robot_sparse,quick --workdir=runs/idaq

It is `configs/focal.py` with the protocol `idaq`, which also stands on top of any other method that
infers task codes: `--config.eval.protocols=few_shot,zero_shot,idaq`. A method with a task model has
its two other scores: here `--config.ensemble.members=5 --config.eval.idaq_score=error` (or
`spread`). Not tuned; docs/systems.md has its returns.

Presets: "" (ours), `quick` (a laptop's CPU), `debug` (seconds) and `paper`, which is FOCAL's with
IDAQ's ensemble. Of IDAQ's training on these families nothing is known to us beside that; on
Meta-World its distances weigh 100, contexts have 400 transitions, and it makes 300 iterations of
1000 updates.
"""

from metastar import config

OURS = {"eval.protocols": "few_shot,zero_shot,idaq"}
PRESETS = {
    "": OURS,
    "quick": OURS,
    "debug": {**OURS, "eval.idaq_explore": 2, "eval.idaq_budget": 3},
    "paper": {
        **OURS,
        "ensemble.members": 12,
        "ensemble.hidden": (256, 256, 256),
        "ensemble.rows": 256,
        "ensemble.first_dynamics": False,
        "eval.idaq_spread": "time",
    },
}
# Episodes and candidates are the paper's; a context of `paper` holds all steps of a stream.
POINT = {"eval.idaq_explore": 10, "eval.idaq_budget": 12, "eval.idaq_candidates": 20}
POINTS = {"": POINT, "quick": POINT, "paper": {**POINT, "eval.idaq_context": 720}}
CHEETAH = {"eval.idaq_explore": 2, "eval.idaq_budget": 4, "eval.idaq_candidates": 5}
CHEETAHS = {"": CHEETAH, "quick": CHEETAH, "paper": {**CHEETAH, "eval.idaq_context": 800}}
FAMILIES = {
    **dict.fromkeys(("point_robot", "point_robot_sparse", "point_robot_wind"), POINTS),
    **dict.fromkeys(("cheetah_vel", "cheetah_vel_sparse", "cheetah_dir"), CHEETAHS),
}


def get_config(argument: str = ""):
    cfg = config.load_preset(f"focal.py:{argument}")
    return config.change(
        cfg, PRESETS[cfg.preset] | FAMILIES.get(cfg.family, {}).get(cfg.preset, {})
    )
