"""FOCAL beside MetaSTAR on the same data, under two agents: what `experiments/focal.py` shows.

metastar sweep experiments/sweeps/focal.py:point_robot_sparse
"""

from ml_collections import ConfigDict
from sweeps.pays import EARLIER_QUICK

# Under MetaSTAR's agent FOCAL has that agent's settings of MetaSTAR's recipe.
CONSERVATIVE = (
    "preset=FOCAL under MetaSTAR's agent",
    "agent.name=conservative",
    "agent.conservative.actor_lr=0.001",
    "agent.conservative.critic_lr=0.001",
    "agent.conservative.num_actions=2",
    "agent.conservative.cql_states=16",
    "agent.conservative.actor_average=0.995",
)
# By which its tables were made.
EARLIER = {"inference.choice": "encoder"}
FAMILIES = ("point_robot_sparse", "cheetah_vel")


def get_config(family: str = FAMILIES[0]) -> ConfigDict:
    shared = {"families": (family,), "presets": ("quick",), "seeds": (0, 1, 2), "then": ("audit",)}
    earlier = EARLIER | (EARLIER_QUICK if family == "cheetah_vel" else {})
    earlier = tuple(f"{path}={value}" for path, value in earlier.items())
    agents = {"iql": ("preset=FOCAL",), "conservative": CONSERVATIVE}
    return ConfigDict(
        {
            "results": f"experiments/results/focal_{family}",
            "runs": f"runs/focal_{family}",
            "grids": (
                {"methods": ("metastar",), "overrides": {"": earlier}, **shared},
                {"methods": ("focal",), "overrides": agents, **shared},
            ),
        }
    )
