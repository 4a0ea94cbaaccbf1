"""What the minutes of Cheetah-Vel's presets are spent on best: what `experiments/hour.py` shows.

    metastar sweep experiments/sweeps/hour.py
    metastar sweep experiments/sweeps/hour.py:quick

The last six training tasks are withheld and take the place of the test tasks, since settings are
chosen so. The default has a part of its updates and one seed, `quick` all of them and three. Some
arms begin behind the pretraining of others.
"""

from ml_collections import ConfigDict
from sweeps.pays import EARLIER, EARLIER_QUICK, GOOD, imagined

UPDATES = {"": 6_000, "quick": 10_000}
SEEDS = {"": (0,), "quick": (0, 1, 2)}
WITHHELD = {"data.validation_tasks": 6}
NARROW = {"world_model.code_dim": 3}
STAYS = {"world_model.every": 0}  # it learns in the pretraining alone


def label_of(preset: str) -> str:
    return f"hour_cheetah_vel{f'_{preset}' * bool(preset)}_validation6"


def variant(title: str) -> str:
    """Name of a cell in files and folders."""
    return title.replace(",", "").replace(":", "").replace(" ", "_")


def shared(preset: str) -> dict:
    """Fields of all arms."""
    num = UPDATES[preset]
    default = {**EARLIER, "train.pretrain_updates": 4_000, "sampler.pretrain_batch": 8}
    ends = {f"train.{name}": num for name in ("updates", "eval_every", "checkpoint_every")}
    return {**(EARLIER_QUICK if preset else default), **WITHHELD, **ends}


def behind(title: str) -> dict:
    """A run of the default begins behind the pretraining of another one."""
    return {"train.pretrained": f"runs/{label_of('')}/metastar-{variant(title)}_cheetah_vel_0"}


NARROW_ONE, WIDE_ONE = "good model, three dimensions", "good model, it stays"
NARROW_STAYS = {**GOOD, **NARROW, **STAYS, **behind(NARROW_ONE)}
TENTH = "a tenth of the episodes: hardly any imagined"
FEW = {"data.fraction": 0.1, **GOOD, **STAYS}
ARMS = {
    "": {
        "as it is": {},
        "three dimensions": NARROW,
        NARROW_ONE: {**GOOD, **NARROW},
        f"{NARROW_ONE}, it stays": NARROW_STAYS,
        f"{NARROW_ONE}, it stays, other codes": {
            **NARROW_STAYS,
            **imagined(1, 0.25, **{"imagine.reach": 1.0}),
        },
        WIDE_ONE: {**GOOD, **STAYS},
    },
    "quick": {
        "as it is": {},
        "good model, it stays": {
            **GOOD,
            **STAYS,
            "train.pretrain_updates": 6_000,
            "sampler.pretrain_batch": 8,
        },
    },
}

# Their model is that of an arm above, or of the first of a tenth, so that they are not audited.
AGENTS = {
    "": {
        **{
            f"{WIDE_ONE}: half imagined, horizon {horizon}": {
                **GOOD,
                **STAYS,
                **imagined(horizon, 0.5),
                **behind(WIDE_ONE),
            }
            for horizon in (1, 4, 8)
        },
        TENTH: {**FEW, **imagined(1, 0.0)},
        **{
            f"a tenth of the episodes: half imagined, horizon {horizon}": {
                **FEW,
                **imagined(horizon, 0.5),
                **behind(TENTH),
            }
            for horizon in (1, 4, 8)
        },
    },
    "quick": {},
}


def get_config(preset: str = "") -> ConfigDict:
    label, seeds = label_of(preset), SEEDS[preset]
    common = {
        "families": ("cheetah_vel",),
        "presets": (preset,),
        "seeds": seeds,
        "runs_per_program": len(seeds),
    }
    bound = {**WITHHELD, "train.updates": UPDATES[preset]}
    arms, agents = (
        {
            variant(title): tuple(f"{path}={x}" for path, x in {**shared(preset), **own}.items())
            for title, own in some[preset].items()
        }
        for some in (ARMS, AGENTS)
    )
    oracle = {"": tuple(f"{path}={x}" for path, x in bound.items())}
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "memory_gb": 10.0,  # of an audit
            "grids": (
                {"methods": ("oracle",), "overrides": oracle, **common},
                {"methods": ("metastar",), "overrides": arms, "then": ("audit",), **common},
                *({"methods": ("metastar",), "overrides": agents, **common},) * bool(agents),
            ),
        }
    )
