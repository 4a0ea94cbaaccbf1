"""Point-Robot-Wind: walk to a known goal in an unknown wind, paid the negative distance to it.

All tasks have the same reward; what differs is where an action leads.

Source: `point-robot-wind` of FOCAL (Li et al. 2021, arXiv 2010.01112), which IDAQ (Wang et al.
2023, arXiv 2305.19529) shares.
"""

from functools import partial

import numpy as np

from metastar.config.fields import Field
from metastar.envs.backends import point_mass
from metastar.envs.backends.point_mass import Plane, distance_after
from metastar.envs.family import Family
from metastar.envs.intervals import draw_ring
from metastar.types import EnvSpec

DEFAULTS = {"discount": Field(0.9, "[0, 1)", "of returns, as of the other point robots")}
SECTIONS = {"env": (point_mass,)}
_TASKS = {"data.train_tasks": 40, "data.test_tasks": 10}  # FOCAL's
DATA = {
    **point_mass.DATA,
    "default": {**point_mass.DATA["default"], **_TASKS},
    "quick": {**point_mass.DATA["quick"], **_TASKS},
    "paper": _TASKS,
}
UPDATES = point_mass.UPDATES

SPEC = EnvSpec("point_robot_wind", obs_dim=2, action_dim=2, max_episode_steps=25)
MAX_WIND = 0.05  # length units per step and coordinate: half of what an action can do
# Ours: half widths of square rings around still air; the literature has no such split.
SPLITS = {"id": (0.0175, MAX_WIND), "ood_moderate": (0.0, 0.0175), "ood_extreme": (0.06, 0.075)}
GOAL = np.array([1.0, 0.0])
GOAL_RADIUS = 0.2  # length units; counts a success, does not change the reward


def draw_tasks(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` winds, uniform on [-0.05, 0.05]^2: `{"wind": float64 [num, 2]}`."""
    return {"wind": rng.uniform(-MAX_WIND, MAX_WIND, (num, 2))}


def draw_split(rng: np.random.Generator, num: int, split: str) -> dict[str, np.ndarray]:
    """Draws `num` winds, uniform over the square ring of a name in `SPLITS`."""
    return {"wind": draw_ring(rng, num, *SPLITS[split])}


def blow(plane: Plane, task) -> Plane:
    """The plane with the wind of one task."""
    return plane._replace(wind=task["wind"])


def start(xp, noise, rest, task):
    """Start position [..., 2]: every episode begins at the origin."""
    return rest + xp.zeros_like(noise)


def reward(xp, before, after, action, task):
    """`-|p' - g|`: [...] of positions [..., 2]; `p'` is where the step led, g = (1, 0)."""
    return -xp.linalg.norm(after - xp.asarray(GOAL), axis=-1)


def success(xp, before, after, action, task):
    """Whether the step led to within `GOAL_RADIUS` of the goal."""
    return xp.linalg.norm(after - xp.asarray(GOAL), axis=-1) <= GOAL_RADIUS


def label(task) -> tuple[str, np.ndarray]:
    """The number of a task that plots show: the direction of the wind, in radians."""
    wind = np.asarray(task["wind"])
    return "wind angle [rad]", np.arctan2(wind[..., 1], wind[..., 0])


def goal(tasks) -> np.ndarray:
    """The goal of each task, the same for all: [N, 2]."""
    return np.broadcast_to(GOAL, np.shape(tasks["wind"]))


def optimum(start, task) -> np.ndarray:
    """Largest possible return of one episode, exactly: `-sum_k distance(box_k, g)`, k = 1...25.

    As in still air: the box of the positions that can be reached in k steps drifts with the wind,
    and since the wind is weaker than a step one path is as near to the goal as each box allows.

    Args:
        start: [..., 2] first observation of an episode, which is its first position.
        task: `{"wind": [..., 2]}`, broadcast against `start`.
    """
    return -distance_after(start, GOAL, SPEC.max_episode_steps, task["wind"]).sum(-1)


FAMILY = Family(
    name=SPEC.name,
    specs={"default": SPEC},
    law={"own": draw_tasks} | {name: partial(draw_split, split=name) for name in SPLITS},
    label=label,
    start=start,
    observe=point_mass.observe,
    reward=reward,
    body=point_mass.BODY._replace(edit=blow),
    success=success,
    optimum=optimum,
    goal=goal,
    goal_radius=GOAL_RADIUS,
    backend="point_mass",
)
