"""What the hour of Cheetah-Vel's default preset is spent on best: `experiments/hour.py`.

    metastar sweep experiments/sweeps/hour.py

The default's data; the last six training tasks are withheld and take the place of the test tasks,
since the preset's settings are chosen so. A part of its updates, one seed. The last arms begin
behind the pretraining of others.
"""

from ml_collections import ConfigDict
from sweeps.pays import GOOD, imagined

LABEL = "hour_cheetah_vel_validation6"
BATCH = {"sampler.pretrain_batch": 8}  # tasks of an update of the pretraining
NARROW = {"world_model.code_dim": 3}
BEFORE = {  # what the preset was until then, by the last of these arms
    "world_model.recon_weight": 1.0,
    "world_model.latent_init": "reference",
    "world_model.prior": "linear",
    "world_model.skip": False,
    "world_model.variance_power": 0.0,
    "world_model.condition": "none",
    "world_model.every": 1,
    "imagine.start": "predicted",
    "imagine.uncertainty": "spread",
}
SHARED = {
    **BEFORE,
    "data.validation_tasks": 6,
    "train.pretrain_updates": 4_000,
    "train.updates": 6_000,
    "train.eval_every": 6_000,
    "train.checkpoint_every": 6_000,
    **BATCH,
}


def variant(title: str) -> str:
    """Name of a cell in files and folders."""
    return title.replace(",", "").replace(" ", "_")


def workdir(title: str) -> str:
    return f"runs/{LABEL}/metastar-{variant(title)}_cheetah_vel_0"


PRETRAINED = workdir("good model, three dimensions")
STAYS = {"world_model.every": 0}  # it learns in the pretraining alone
ARMS = {
    "as it is": {},
    "three dimensions": NARROW,
    "good model, three dimensions": {**GOOD, **NARROW},
    "good model, three dimensions, it stays": {
        **GOOD,
        **NARROW,
        **STAYS,
        "train.pretrained": PRETRAINED,
    },
    "good model, three dimensions, it stays, other codes": {
        **GOOD,
        **NARROW,
        **STAYS,
        **imagined(1, 0.25, **{"imagine.reach": 1.0}),
        "train.pretrained": PRETRAINED,
    },
    "good model, it stays": {**GOOD, **STAYS},
}


def get_config() -> ConfigDict:
    shared = {"families": ("cheetah_vel",), "presets": ("",), "seeds": (0,)}
    oracle = {name: value for name, value in SHARED.items() if name.startswith("data.")}
    overrides = {
        variant(title): tuple(f"{path}={x}" for path, x in {**SHARED, **fields}.items())
        for title, fields in ARMS.items()
    }
    bound = {"": (*(f"{path}={x}" for path, x in oracle.items()), "train.updates=6000")}
    return ConfigDict(
        {
            "results": f"experiments/results/{LABEL}",
            "runs": f"runs/{LABEL}",
            "memory_gb": 10.0,  # of an audit
            "grids": (
                {"methods": ("oracle",), "overrides": bound, **shared},
                {"methods": ("metastar",), "overrides": overrides, "then": ("audit",), **shared},
            ),
        }
    )
