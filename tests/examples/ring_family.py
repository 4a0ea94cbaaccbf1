"""A task family in one file: walk to a ring of unknown radius around the origin, and stay on it."""

import numpy as np

from metastar.config import Field
from metastar.envs.backends import point_mass
from metastar.types import EnvSpec

KIND = "family"
DEFAULTS = {"discount": Field(0.9, "[0, 1)", "of returns")}
SECTIONS = {"env": (point_mass,)}
DATA = {  # what `data.preset` may name: how data sets are made
    "quick": {"collect.random_episodes": 20, "collect.iterations": 30},
    "debug": {
        "data.train_tasks": 4,
        "data.test_tasks": 2,
        "collect.random_episodes": 3,
        "collect.iterations": 1,
        "collect.updates_per_iteration": 4,
    },
}
SPEC = EnvSpec("ring_family", obs_dim=2, action_dim=2, max_episode_steps=60)
SPARSE = False


def draw_tasks(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` radii, uniform on [0.5, 1.5]."""
    return {"radius": rng.uniform(0.5, 1.5, num)}


def start(xp, noise, task):
    """Start position, uniform on [-1, 1]^2 for noise uniform on [0, 1)^2."""
    return 2 * noise - 1


def observe(xp, position):
    """The observation is the position; the ring is never seen."""
    return position


def reward(xp, before, after, action, task):
    """The negative distance to the ring after the step."""
    return -xp.abs(xp.linalg.norm(after, axis=-1) - task["radius"])


def goal_reached(xp, before, after, action, task):
    """Counts a success; does not change the reward."""
    return reward(xp, before, after, action, task) > -0.1


def label(task) -> tuple[str, np.ndarray]:
    """What plots show of a task."""
    return "radius", np.asarray(task["radius"])
