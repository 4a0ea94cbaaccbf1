"""MetaSTAR that explores with a purpose: what `experiments/exploring.py` shows.

    metastar sweep experiments/sweeps/exploring.py

The reward's likelihood is among the task losses, which some strategies need, and latents are
precise (`tuning.json` beside the results says why). Every run is evaluated with all strategies.
"""

from ml_collections import ConfigDict

from metastar import registry

LABEL = "point_robot_sparse_explore"
STRATEGIES = registry.names("exploration strategy")
# Without precise latents one seed's pretraining ended where codes tell few goals apart. The actions
# and the inference are what the preset had when the table was made.
FIELDS = (
    "inference.choice=encoder",
    "task_losses.reconstruction=3.0",
    "world_model.latent_init=precise",
    "agent.conservative.num_actions=4",
)


def get_config() -> ConfigDict:
    grid = {
        "methods": ("metastar",),
        "families": ("point_robot_sparse",),
        "presets": ("quick",),
        "overrides": {"": FIELDS},
        "seeds": (0, 1, 2),
        "runs_per_program": 3,
        "then": (f"evaluate --explore={','.join(STRATEGIES)}",),
    }
    return ConfigDict(
        {
            "results": f"experiments/results/{LABEL}",
            "runs": f"runs/{LABEL}",
            "memory_gb": 8.0,
            "grids": (grid,),
        }
    )
