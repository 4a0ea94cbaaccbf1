"""A family's default preset, from data to report: what `experiments/default.py` shows.

    metastar sweep experiments/sweeps/default.py:cheetah_vel

Evaluations during the training are few and small, for a curve over seconds. `:cheetah_vel,6`
withholds the last six training tasks, which then take the place of the test tasks.
"""

from ml_collections import ConfigDict

METHODS = ("oracle", "metastar")


def label_of(family: str, withheld: str = "") -> str:
    return f"default_{family}" + f"_validation{withheld}" * bool(withheld)


def get_config(argument: str = "cheetah_vel") -> ConfigDict:
    family, _, withheld = argument.partition(",")
    label = label_of(family, withheld)
    shared = {"families": (family,), "presets": ("",), "seeds": (0, 1, 2), "runs_per_program": 3}
    overrides = {"": (f"data.validation_tasks={withheld or 0}",)}
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "memory_gb": 12.0,
            "grids": tuple(
                {"methods": (m,), "overrides": overrides, "then": ("audit",) * (m == "metastar")}
                | shared
                for m in METHODS
            ),
        }
    )
