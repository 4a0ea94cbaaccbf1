"""Point-Robot, dense: walk to an unknown goal, paid the negative distance to it at every step.

Source: `PointRobot-v0` of the MetaSTAR reference code, after PEARL (Rakelly et al., 2019,
arXiv 1903.08254).
"""

from functools import partial

import numpy as np

from metastar.config.fields import Field
from metastar.envs.backends import point_mass
from metastar.envs.backends.point_mass import distance_after
from metastar.envs.family import Family
from metastar.envs.intervals import draw_ring
from metastar.types import EnvSpec

DEFAULTS = {"discount": Field(0.9, "[0, 1)", "of returns, as the reference has it", before=0.9)}
SECTIONS = {"env": (point_mass,)}
# As many as FOCAL has (Li et al. 2021, arXiv 2010.01112): encoders memorise fewer training tasks.
_TASKS = {"data.train_tasks": 80, "data.test_tasks": 20}
DATA = {
    **point_mass.DATA,
    "default": {**point_mass.DATA["default"], **_TASKS},
    "quick": {**point_mass.DATA["quick"], **_TASKS},
}
UPDATES = point_mass.UPDATES

SPEC = EnvSpec("point_robot", obs_dim=2, action_dim=2, max_episode_steps=60)
# Ours: half widths of square rings around the origin; the literature has no such split.
SPLITS = {"id": (0.35, 1.0), "ood_moderate": (0.0, 0.35), "ood_extreme": (1.2, 1.5)}
GOAL_RADIUS = 0.2  # length units; counts a success, does not change the reward


def draw_tasks(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` goals, uniform on [-1, 1]^2: `{"goal": float64 [num, 2]}`."""
    return {"goal": rng.uniform(-1, 1, (num, 2))}


def draw_split(rng: np.random.Generator, num: int, split: str) -> dict[str, np.ndarray]:
    """Draws `num` goals, uniform over the square ring of a name in `SPLITS`."""
    return {"goal": draw_ring(rng, num, *SPLITS[split])}


def start(xp, noise, rest, task):
    """Start position [..., 2], uniform on [-1, 1]^2 for noise [..., 2] uniform on [0, 1)^2."""
    return 2 * noise - 1


def reward(xp, before, after, action, task):
    """`-|p' - g|`: [...] of positions [..., 2]; `p'` is where the step led."""
    return -xp.linalg.norm(after - task["goal"], axis=-1)


def success(xp, before, after, action, task):
    """Whether the step led to within `GOAL_RADIUS` of the goal."""
    return xp.linalg.norm(after - task["goal"], axis=-1) <= GOAL_RADIUS


def label(task) -> tuple[str, np.ndarray]:
    """The number of a task that plots show: the goal's direction from the origin, in radians."""
    goal = np.asarray(task["goal"])
    return "goal angle [rad]", np.arctan2(goal[..., 1], goal[..., 0])


def optimum(start, task) -> np.ndarray:
    """Largest possible return of one episode, exactly: `-sum_k distance(box_k, g)`, k = 1...60.

    No policy can be nearer to the goal after k steps than the box of the positions it can reach in
    k steps; the one path of `distance_after` is that near after every k, so the sum of the bounds
    is attained.

    Args:
        start: [..., 2] first observation of an episode, which is its first position.
        task: `{"goal": [..., 2]}`, broadcast against `start`.
    """
    return -distance_after(start, task["goal"], SPEC.max_episode_steps).sum(-1)


FAMILY = Family(
    name=SPEC.name,
    specs={"default": SPEC},
    law={"own": draw_tasks} | {name: partial(draw_split, split=name) for name in SPLITS},
    label=label,
    start=start,
    observe=point_mass.observe,
    reward=reward,
    body=point_mass.BODY,
    success=success,
    optimum=optimum,
    goal=lambda tasks: tasks["goal"],
    goal_radius=GOAL_RADIUS,
    backend="point_mass",
)
