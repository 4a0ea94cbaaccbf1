"""A task family in one file: walk to a ring of unknown radius around the origin, and stay on it."""

import numpy as np

from metastar.types import EnvSpec

SPEC = EnvSpec("examples.ring_family", obs_dim=2, action_dim=2, max_episode_steps=60)
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
