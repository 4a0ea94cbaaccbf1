"""Methods on a family over seeds, bounded by the oracle: what `experiments/seeds.py` shows.

    metastar sweep experiments/sweeps/seeds.py:cheetah_vel

`:cheetah_vel,quick,6` withholds the last six training tasks, which then take the place of the test
tasks: this is how settings are chosen. Its files go to a folder of their own.
"""

from ml_collections import ConfigDict


def label_of(family: str, preset: str = "quick", withheld: str = "") -> str:
    return f"{family}_{preset}" + f"_validation{withheld}" * bool(withheld)


def get_config(argument: str = "cheetah_vel") -> ConfigDict:
    given = argument.split(",")
    family, preset, withheld = given + ["cheetah_vel", "quick", ""][len(given) :]
    label = label_of(family, preset, withheld)
    validation = (f"data.validation_tasks={withheld or 0}",)
    shared = {"families": (family,), "presets": (preset,), "seeds": (0, 1, 2)}
    bound = ("eval.oracle={runs}/oracle_{family}_{preset}_{seed}",)
    bounded = {"overrides": {"": validation + bound}, **shared}
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "memory_gb": 10.0,  # of an audit
            "grids": (
                {"methods": ("oracle",), "overrides": {"": validation}, **shared},
                {"methods": ("metastar",), "then": ("audit",), **bounded},
                {"methods": ("bc",), **bounded},
            ),
        }
    )
