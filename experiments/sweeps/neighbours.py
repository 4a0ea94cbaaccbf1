"""All systems on the same data, with bounds: what `experiments/neighbours.py` shows.

    metastar sweep experiments/sweeps/neighbours.py:point_robot_sparse

`:cheetah_vel,6` withholds six training tasks (`data.validation_choice`), which then take the place
of the test tasks: this is how settings are chosen. Its files go to a folder of their own. Of the
robots of `ROBOTS` there are the oracle, MetaSTAR and FOCAL alone.
"""

from ml_collections import ConfigDict

ROBOTS = ("ant_dir", "hopper_mass", "walker_param")
FAMILIES = ("point_robot_sparse", "cheetah_vel", *ROBOTS)
BOUNDS = ("oracle", "bc", "task_blind")
METHODS = (
    *("metastar", "spc", "meta_dt", "corro"),
    *("focal", "er_trl", "unicorn_ss", "unicorn_sup", "csro", "idaq"),
)
TITLES = {  # of those that are one method of this code, `contextual`
    "focal": "FOCAL",
    "er_trl": "ER-TRL",
    "unicorn_ss": "UNICORN-SS",
    "unicorn_sup": "UNICORN-SUP",
    "csro": "CSRO",
    "idaq": "IDAQ",
}

# MetaSTAR's task objective, in place of what the method has.
OBJECTIVE = ("task_losses.infonce=10", "task_losses.reconstruction=3", "sampler.windows=2")
CROSSED = {  # what no paper has: title, recipe and changes
    "MetaSTAR's encoder and objective under IQL": (
        "focal",
        (
            *OBJECTIVE,
            "task_losses.distance=0",
            "encoder.name=transformer",
            "encoder.transformer.inputs=previous",
            "encoder.transformer.width=64",
            "encoder.transformer.code_dim=16",
            "encoder.transformer.bound=sphere",
        ),
    ),
    "SPC's world model, MetaSTAR's objective": ("spc", (*OBJECTIVE, "spc.infonce_weight=0")),
}


def label_of(family: str, withheld: str = "") -> str:
    return f"neighbours_{family}" + f"_validation{withheld}" * bool(withheld)


def get_config(argument: str = FAMILIES[0]) -> ConfigDict:
    family, _, withheld = argument.partition(",")
    label = label_of(family, withheld)
    validation = (f"data.validation_tasks={withheld or 0}",)
    shared = {
        "families": (family,),
        "presets": ("quick",),
        "seeds": (0, 1, 2),
        "runs_per_program": 3,
    }

    def grid(method: str, then: tuple[str, ...] = ("audit",)) -> dict:
        title = (f"preset={TITLES[method]}",) if method in TITLES else ()
        overrides = {"": validation + title}
        return {"methods": (method,), "overrides": overrides, "then": then, **shared}

    def crossed(title: str, method: str, changes: tuple[str, ...]) -> dict:
        overrides = {"crossed": (*validation, f"preset={title}", *changes)}
        return {"methods": (method,), "overrides": overrides, "then": ("audit",), **shared}

    grids = (
        *(grid(method, then=()) for method in BOUNDS),
        *(grid(method) for method in METHODS),
        *(crossed(title, *cell) for title, cell in CROSSED.items()),
    )
    if family in ROBOTS:
        grids = grid("oracle", then=()), grid("metastar"), grid("focal")
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "grids": grids,
        }
    )
