"""MetaSTAR and its oracle on Point-Robot-Sparse: the first table of the README.

    metastar sweep experiments/sweeps/point_robot_sparse.py

`:quick,6` after the file's name withholds the last six training tasks, which then take the place
of the test tasks: this is how settings were chosen. Its files go to a folder of their own.
"""

from ml_collections import ConfigDict

FAMILY = "point_robot_sparse"


def label_of(preset: str, withheld: str = "") -> str:
    return f"{FAMILY}_{preset}" + f"_validation{withheld}" * bool(withheld)


def get_config(argument: str = "quick") -> ConfigDict:
    preset, _, withheld = argument.partition(",")
    label = label_of(preset, withheld)
    validation = (f"data.validation_tasks={withheld or 0}",)
    shared = {"families": (FAMILY,), "presets": (preset,), "seeds": (0, 1, 2)}
    bound = ("eval.oracle={runs}/oracle_{family}_{preset}_{seed}",)
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "grids": (
                {"methods": ("oracle",), "overrides": {"": validation}, **shared},
                {"methods": ("metastar",), "overrides": {"": validation + bound}, **shared},
            ),
        }
    )
