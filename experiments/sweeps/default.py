"""A family's default preset, from data to report: what `experiments/default.py` shows.

    metastar sweep experiments/sweeps/default.py:cheetah_vel

Three seeds of MetaSTAR, in one program or a cell each, and one of the oracle, the bound.
`:cheetah_vel,6` withholds the last six training tasks, which then take the place of the test tasks.
"""

from ml_collections import ConfigDict

TOGETHER = ("cheetah_vel",)  # families whose seeds are one program on two cores
PROTOCOLS = "few_shot,zero_shot,swapped"
EXPLORED = ("point_robot_sparse",)  # families whose plain first episodes hardly meet a reward


def label_of(family: str, withheld: str = "") -> str:
    return f"default_{family}" + f"_validation{withheld}" * bool(withheld)


def get_config(argument: str = "cheetah_vel") -> ConfigDict:
    family, _, withheld = argument.partition(",")
    label, together = label_of(family, withheld), family in TOGETHER
    shared = {"families": (family,), "presets": ("",)}
    withheld = (f"data.validation_tasks={withheld or 0}",)
    protocols = PROTOCOLS + ",explored" * (family in EXPLORED)
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "cores": 2 if together else 1,
            "memory_gb": 14.0,  # of the audits
            "grids": (
                {"methods": ("oracle",), "overrides": {"": withheld}, "seeds": (0,), **shared},
                {
                    "methods": ("metastar",),
                    "overrides": {"": (*withheld, f"eval.protocols={protocols}")},
                    "then": ("audit",),
                    "seeds": (0, 1, 2),
                    "runs_per_program": 3 if together else 1,
                    **shared,
                },
            ),
        }
    )
