"""Tasks that are a direction in the plane: what Ant-Dir and Humanoid-Dir share."""

import numpy as np

from metastar.envs import numbered_tasks


def draw_tasks(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` directions, uniform on [0, 2π): `{"angle": float64 [num]}` in radians."""
    return {"angle": rng.uniform(0, 2 * np.pi, num)}


def numbered(ids: np.ndarray) -> dict[str, np.ndarray]:
    """The directions `2πk/40`, 9 degrees apart, of numbers k of ER-TRL and SPC."""
    return {"angle": 2 * np.pi * ids / numbered_tasks.NUM}


LAW = {"own": draw_tasks} | numbered_tasks.laws(numbered, numbered_tasks.ER_TRL)
SPC_LAW = {"own": draw_tasks} | numbered_tasks.laws(numbered, numbered_tasks.SPC)


def along(xp, velocity, task):
    """The part [...] of planar velocities [..., 2] in a task's direction."""
    angle = xp.asarray(task["angle"])
    return velocity[..., 0] * xp.cos(angle) + velocity[..., 1] * xp.sin(angle)


def label(task) -> tuple[str, np.ndarray]:
    """The number of a task that plots show."""
    return "direction [rad]", np.asarray(task["angle"])
