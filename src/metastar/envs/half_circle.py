"""Tasks that are a goal on the upper unit half circle: laws, and what figures show of them."""

from functools import partial

import numpy as np

from metastar.envs.intervals import draw

GOAL_RADIUS = 0.2  # length units
# Ours: angles of the goal in radians; the literature has no such split.
SPLITS = {
    "id": [(0.0, 0.7), (1.0, 2.1), (2.4, np.pi)],
    "ood_moderate": [(0.7, 1.0), (2.1, 2.4)],
    "ood_extreme": [(-0.8, -0.3), (np.pi + 0.3, np.pi + 0.8)],
}


def draw_tasks(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` goals `(cos φ, sin φ)`, φ uniform on [0, π]: `{"goal": float64 [num, 2]}`."""
    angle = rng.uniform(0, np.pi, num)
    return {"goal": np.stack([np.cos(angle), np.sin(angle)], -1)}


def draw_split(rng: np.random.Generator, num: int, split: str) -> dict[str, np.ndarray]:
    """Draws `num` goals on the unit circle, uniform over the angles of a name in `SPLITS`."""
    angle = draw(rng, num, SPLITS[split])
    return {"goal": np.stack([np.cos(angle), np.sin(angle)], -1)}


LAW = {"own": draw_tasks} | {name: partial(draw_split, split=name) for name in SPLITS}


def label(task) -> tuple[str, np.ndarray]:
    """The number of a task that plots show: the goal's angle, in radians."""
    goal = np.asarray(task["goal"])
    return "goal angle [rad]", np.arctan2(goal[..., 1], goal[..., 0])
