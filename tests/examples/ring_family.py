"""A task family in one file: walk to a ring of unknown radius in an unknown current.

The current is the physics of a task. Who drifts out of the field has lost: the episode ends.
"""

import numpy as np

from metastar.config import Field
from metastar.envs.backends import point_mass
from metastar.envs.family import Family
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
FIELD = 2.0  # half its width


def draw_tasks(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` radii, uniform on [0.5, 1.5], and currents, uniform on [-0.05, 0.05]^2."""
    return {"radius": rng.uniform(0.5, 1.5, num), "current": rng.uniform(-0.05, 0.05, (num, 2))}


def drift(plane, task):
    """The physics of one task: what its current adds to every step."""
    return plane._replace(wind=task["current"])


def start(xp, noise, rest, task):
    """Start position, uniform on [-1, 1]^2 for noise uniform on [0, 1)^2."""
    return 2 * noise - 1


def reward(xp, before, after, action, task):
    """The negative distance to the ring after the step, and -20 for leaving the field."""
    distance = xp.abs(xp.linalg.norm(after, axis=-1) - task["radius"])
    return -distance - 20.0 * done(xp, before, after, action, task)


def done(xp, before, after, action, task):
    """A true terminal: the step left the field."""
    return xp.abs(after).max(-1) > FIELD


def success(xp, before, after, action, task):
    """The step led to within 0.1 of the ring; this does not change the reward."""
    return xp.abs(xp.linalg.norm(after, axis=-1) - task["radius"]) < 0.1


def label(tasks) -> tuple[str, np.ndarray]:
    """What plots show of a task."""
    return "radius", np.asarray(tasks["radius"])


FAMILY = Family(
    name="ring_family",
    specs={"default": EnvSpec("ring_family", 2, 2, max_episode_steps=60, done_ends_episode=True)},
    law={"own": draw_tasks},
    label=label,
    start=start,
    observe=point_mass.observe,
    reward=reward,
    body=point_mass.BODY._replace(edit=drift),
    done=done,
    success=success,
    backend="point_mass",
)
