"""Why codes of bags do not help zero-shot: contexts of other forms, on withheld tasks.

    metastar sweep experiments/sweeps/own_context.py

A bag of 64 transitions of all data of a task of Point-Robot-Sparse nearly always holds a reward,
what an agent saw in its own first episode seldom does. The last six training tasks take the place
of the test tasks. `experiments/own_context.py` shows it.
"""

from ml_collections import ConfigDict

FAMILY = "point_robot_sparse"
WINDOW = ("encoder.mean_mlp.context=window",)
CONTEXTS = {  # title: changes
    "bags of 64": (),
    "bags of 30": ("encoder.mean_mlp.context_len=30",),
    "bags of 8": ("encoder.mean_mlp.context_len=8",),
    "bags of 8 to 64": ("encoder.shortest=8",),
    "bags of 1 to 64": ("encoder.shortest=1",),
    "windows of 30": (*WINDOW, "encoder.mean_mlp.context_len=30"),
    "windows of 30, Transformer": (
        "encoder.name=transformer",
        "encoder.transformer.inputs=previous",
        "encoder.transformer.width=64",
        "encoder.transformer.code_dim=16",
        "encoder.transformer.bound=sphere",
    ),
}
METHODS = {  # title and contexts; FOCAL only tells whether the answer holds for it
    "unicorn_sup": ("UNICORN-SUP", tuple(CONTEXTS)),
    "focal": ("FOCAL", ("bags of 64", "windows of 30")),
}
LABEL = "own_context_point_robot_sparse_validation6"
SHARED = {"families": (FAMILY,), "presets": ("quick",), "runs_per_program": 3}
WITHHELD = ("data.validation_tasks=6",)


def variant(title: str) -> str:
    """Name of a cell in files and folders."""
    return title.replace(",", "").replace(" ", "_").lower()


def get_config() -> ConfigDict:
    def grid(method: str, overrides: dict[str, tuple[str, ...]]) -> dict:
        return {"methods": (method,), "overrides": overrides, "seeds": (0, 1, 2), **SHARED}

    tried = {
        method: {
            variant(context): (*WITHHELD, f"preset={title} {context}", *CONTEXTS[context])
            for context in contexts
        }
        for method, (title, contexts) in METHODS.items()
    }
    return ConfigDict(
        {
            "results": f"experiments/results/{LABEL}",
            "runs": f"runs/{LABEL}",
            "grids": (
                grid("task_blind", {"": WITHHELD}),
                *(grid(method, overrides) for method, overrides in tried.items()),
            ),
        }
    )
