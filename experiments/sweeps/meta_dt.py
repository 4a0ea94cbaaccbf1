"""Meta-DT taken apart, and how many own episodes it needs: what `experiments/meta_dt.py` shows.

    metastar sweep experiments/sweeps/meta_dt.py:point_robot_sparse

The last six training tasks are withheld and take the place of the test tasks: settings are chosen
by this table. `own_episodes` plays ten episodes before the one it scores, and results hold the
return of each, so that one evaluation tells it after 1, 3 and 10 own episodes. The Transformers
have half the updates of `quick`, and on Cheetah-Vel half the sequences of an update and fewer
streams: arms are compared, and there are a dozen. Those of Point-Robot-Sparse were run at the
settings of before their choice of episodes and rate, which are an arm there.
"""

from ml_collections import ConfigDict

FAMILIES = ("point_robot_sparse", "cheetah_vel")
WITHHELD = ("data.validation_tasks=6",)
SHARED = (*WITHHELD, "eval.shots=10", "train.updates=2500")
SMALLER = {
    "point_robot_sparse": ("meta_dt.candidates=1", "meta_dt.lr=3e-4"),
    "cheetah_vel": (
        "sampler.batch_size=2",
        "eval.protocols=few_shot,own_episodes",
        "eval.windows=4",
        "eval.zero_shot_streams=3",
    ),
}
ARMS = {  # title: changes
    "default": (),
    "no world model": ("meta_dt.use_model=False", "prompt.choice=random"),
    "prompt of the largest error": ("prompt.choice=max",),
    "random prompt": ("prompt.choice=random",),
    "no prompt": ("prompt.choice=none",),
    "prompt of 3 steps": ("prompt.length=3",),
    "prompt of 10 steps": ("prompt.length=10",),
    "context of 10 steps": ("meta_dt.context_len=10", "acting.kept=5"),
    "context of 40 steps": ("meta_dt.context_len=40", "acting.kept=20"),
    "data of experts": ("data.stages=expert",),
    "data of beginners": ("data.stages=random,medium",),
}
OWN = {  # of a family alone
    "point_robot_sparse": {
        "the best of 4 episodes, rate 1e-3": ("meta_dt.candidates=4", "meta_dt.lr=1e-3"),
    },
    "cheetah_vel": {"every episode": ("meta_dt.candidates=1",), "rate 3e-4": ("meta_dt.lr=3e-4",)},
}


def label_of(family: str) -> str:
    return f"meta_dt_{family}_validation6"


def arms_of(family: str) -> dict[str, tuple[str, ...]]:
    """Changes of every arm, by its title."""
    return ARMS | OWN[family]


def variant(title: str) -> str:
    """Name of a cell in files and folders."""
    return title.replace(",", "").replace(" ", "_")


def get_config(family: str = FAMILIES[0]) -> ConfigDict:
    label = label_of(family)
    shared = {
        "families": (family,),
        "presets": ("quick",),
        "seeds": (0, 1, 2),
        "runs_per_program": 3,
    }
    same = (*SHARED, *SMALLER[family])
    arms = {
        variant(arm): (*same, f"preset={arm}", *changes) for arm, changes in arms_of(family).items()
    }
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "grids": (
                {"methods": ("oracle",), "overrides": {"": WITHHELD}, **shared},
                {"methods": ("meta_dt",), "overrides": arms, **shared},
            ),
        }
    )
