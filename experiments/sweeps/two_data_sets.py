"""Two data sets of the same tasks, by clearly different policies, and a model trained on each.

    metastar sweep experiments/sweeps/two_data_sets.py:cheetah_vel

`experts` learn from the late episodes of SAC alone, `beginners` from uniform actions and from the
early episodes of TD3. Codes are what is compared, by `experiments/two_data_sets.py`, so that agents
have hardly any updates, and none of them is evaluated at length.
"""

from ml_collections import ConfigDict
from sweeps.pays import EARLIER

FAMILIES = ("point_robot", "cheetah_vel")
DATA = {  # what a model sees of the one collection
    "experts": {"data.policies": "sac", "data.stages": "expert"},
    "beginners": {"data.policies": "random,td3", "data.stages": "random,medium"},
}
MIXED = {  # the collection, where the preset's own has one learner
    "point_robot": {
        "collect.behavior": "mixture",
        "collect.cross_task_episodes": 10,
        "data.ood_tasks": 5,
        "data.dir": "data/invariance_point_robot",
    },
    "cheetah_vel": {},
}
# Experts are one source, so that positives cannot be of another.
QUICK = {
    "sampler.positive": "any",
    "inference.choice": "encoder",
    "eval.windows": 2,
    "eval.zero_shot_streams": 2,
}
# The reference's objective at the size of `quick`: distances between the codes of tasks, one window
# of each, a free scale, and codes as wide as those of the preset of Cheetah-Vel.
PAPER = {
    **EARLIER,
    "task_losses.distance": 1.0,
    "task_losses.infonce": 0.0,
    "task_losses.reconstruction": 0.0,
    "world_model.latent_init": "reference",
    "world_model.code_bound": "none",
    "world_model.code_dim": 16,
    "world_model.recon_weight": 1.0,
    "world_model.dyn_weight": 1.0,
    "world_model.mask_episode_boundaries": False,
    "sampler.windows": 1,
}
MODEL = {"train.updates": 200, "train.eval_every": 200}
METHODS = {  # title: method and changes
    "MetaSTAR": ("metastar", MODEL),
    "MetaSTAR, the paper's objective": ("metastar", {**MODEL, **PAPER}),
    "SPC": ("spc", {"train.updates": 4_000, "train.eval_every": 4_000}),
}


def label_of(family: str) -> str:
    return f"two_data_sets_{family}"


def variant(title: str, data: str) -> str:
    """Name of a cell in files and folders."""
    letters = "".join(c for c in title if c.isalnum() or c == " ")
    return f"{letters} {data}".replace(" ", "_").lower()


def get_config(family: str = FAMILIES[0]) -> ConfigDict:
    label, grids = label_of(family), []
    for title, (method, changes) in METHODS.items():
        cells = {
            variant(title, data): tuple(
                f"{name}={value}"
                for name, value in {**MIXED[family], **QUICK, **changes, **chosen}.items()
            )
            for data, chosen in DATA.items()
        }
        grids.append(
            {
                "methods": (method,),
                "families": (family,),
                "presets": ("quick",),
                "seeds": (0, 1, 2),
                "runs_per_program": 3,
                "overrides": cells,
            }
        )
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "memory_gb": 6.0,
            "grids": tuple(grids),
        }
    )
