"""The ablation of invariance: what each term buys, which `experiments/invariance.py` shows.

    metastar sweep experiments/sweeps/invariance.py:point_robot

All cells of a family share one data set of mixed behaviours, and one oracle that bounds their
returns. `:point_robot,alike` trains on the experts alone, those of SAC and of TD3, whose windows
are alike, so that there is little to be invariant to. A number after it withholds so many training
tasks, which then take the place of the test tasks: choices are made so.
"""

from ml_collections import ConfigDict
from sweeps.pays import EARLIER_QUICK

# Of each family, what its preset needs for data of mixed behaviours.
MIXED = {
    "point_robot": {
        "collect.behavior": "mixture",
        "collect.cross_task_episodes": 10,
        "data.ood_tasks": 5,
        "data.dir": "data/invariance_point_robot",
    },
    "cheetah_vel": {},
}
# The reference's penalty, which is on values, with as many actions as the tables were made with.
# The presets of families with dense rewards have none there.
CQL = {
    "agent.conservative.penalty": "cql",
    "imagine.penalty": 0.0,
    "agent.conservative.num_actions": 4,
}
# Fewer than the preset's, for a cell of minutes.
UPDATES = {
    "point_robot": {
        "train.pretrain_updates": 6_000,
        "train.updates": 2_000,
        "train.eval_every": 400,
    },
    "cheetah_vel": {"train.updates": 4_000, "train.eval_every": 800},
}
ALIKE = {"data.policies": "sac,td3", "data.stages": "expert"}
WIDE = {**CQL, "world_model.code_dim": 16}
# The reference's objective: distances between tasks, one window of each, a free scale, in codes of
# 16 dimensions like all cells that do not say otherwise.
PAPER = {
    **WIDE,
    "world_model.latent_init": "reference",
    "world_model.pretrain_lr": 1e-3,
    "task_losses.distance": 1.0,
    "task_losses.infonce": 0.0,
    "task_losses.reconstruction": 0.0,
    "world_model.code_bound": "none",
    "world_model.recon_weight": 1.0,
    "world_model.dyn_weight": 1.0,
    "world_model.mask_episode_boundaries": False,
    "sampler.windows": 1,
    "sampler.positive": "any",
}
# Without these the contrast of the cells below stays where all codes are alike.
PRECISE = {
    "world_model.latent_init": "precise",
    "world_model.pretrain_lr": 3e-3,
    "world_model.recon_weight": 20.0,
}
CROSS = {
    "task_losses.distance": 0.0,
    "task_losses.infonce": 10.0,
    "world_model.code_bound": "sphere",
    "world_model.dyn_weight": 0.1,
    "world_model.mask_episode_boundaries": True,
    "sampler.windows": 2,
    "sampler.positive": "other_behavior",
}
CONDITION = {**PAPER, **PRECISE, "world_model.condition": "concat"}
CONTRAST = {**CONDITION, **CROSS}
LONGER = {"train.pretrain_updates": 15_000, "train.updates": 6_000}
LONGEST = {"train.pretrain_updates": 40_000, "train.updates": 6_000}
CELLS = {
    "paper": PAPER,
    "+ precise": {**PAPER, **PRECISE},
    "+ condition": CONDITION,
    "+ cross-behaviour": CONTRAST,
    "+ adversary": {**CONTRAST, "task_losses.adversary": 1.0},
    "+ mmd": {**CONTRAST, "task_losses.mmd": 1.0},
    "+ spread": {**CONTRAST, "task_losses.spread": 1.0},
    "16 dimensions": WIDE,
    "16 dimensions, longer": {**WIDE, **LONGER},
    "3 dimensions": CQL,
    "3 dimensions, longer": {**CQL, **LONGER},
    "default": {},
    "default, longer": LONGER,
    "default, longest": LONGEST,
    "default, gru": {"world_model.core": "gru"},
    "default, mlp": {"world_model.core": "mlp"},
}
# Which of them are run, by what follows the file's name.
CHOSEN = {
    "point_robot": tuple(CELLS),
    "point_robot,alike": ("paper", "3 dimensions"),
    "cheetah_vel": ("paper", "16 dimensions", "default"),
}


def variant(cell: str) -> str:
    """The name of a cell as part of a file's."""
    return "_".join("".join(c for c in cell if c.isalnum() or c in " ._-").split())


def words(*parts: dict) -> tuple[str, ...]:
    """Fields as they follow --config., later parts over earlier ones."""
    merged = {name: value for part in parts for name, value in part.items()}
    return tuple(f"{name}={value}" for name, value in merged.items())


def parse(argument: str) -> tuple[str, str, str]:
    """What is chosen, the family, and the label of folders and tables."""
    names = [word for word in argument.split(",") if not word.isdecimal()]
    withheld = "".join(word for word in argument.split(",") if word.isdecimal())
    label = "_".join(["invariance", *names]) + f"_validation{withheld}" * bool(withheld)
    return ",".join(names), names[0], label


def get_config(argument: str = "point_robot") -> ConfigDict:
    choice, family, label = parse(argument)
    withheld = label.partition("_validation")[2] or 0
    data = {**MIXED[family], "data.validation_tasks": withheld}
    data |= ALIKE if choice.endswith("alike") else {}
    bound = {"eval.oracle": "{runs}/oracle_{family}_{preset}_0", "inference.choice": "encoder"}
    earlier = EARLIER_QUICK if family == "cheetah_vel" else {}  # by which its table was made
    found = {
        cell: words(earlier, UPDATES[family], data, bound, CELLS[cell]) for cell in CHOSEN[choice]
    }
    # Acting on purpose needs the likelihood of rewards, which belongs to the reconstruction.
    blind = {variant(c): w for c, w in found.items() if "task_losses.reconstruction=0.0" in w}
    sees = {variant(c): w for c, w in found.items() if variant(c) not in blind}
    shared = {"families": (family,), "presets": ("quick",)}
    trained = {"methods": ("metastar",), "seeds": (0, 1, 2), "runs_per_program": 3, **shared}
    explored = ("evaluate --explore=posterior", "audit")
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "memory_gb": 8.0,
            "grids": (
                {"methods": ("oracle",), "overrides": {"": words(data)}, **shared},
                {"overrides": blind, "then": ("audit",), **trained},
                {"overrides": sees, "then": explored, **trained},
            ),
        }
    )
