"""Point-Robot-Sparse: find an unknown goal on the upper unit half circle, paid 1 per step in it.

Source: `PointRobotSparse-v0` of the MetaSTAR reference code (arXiv 2606.00780), after PEARL
(Rakelly et al., 2019, arXiv 1903.08254).
"""

import numpy as np

from metastar.config.fields import Field
from metastar.envs import half_circle
from metastar.envs.backends import point_mass
from metastar.envs.backends.point_mass import distance_after
from metastar.envs.family import Family
from metastar.envs.half_circle import GOAL_RADIUS
from metastar.types import EnvSpec

DEFAULTS = {"discount": Field(0.9, "[0, 1)", "of returns, as the reference has it", before=0.9)}
SECTIONS = {"env": (point_mass,)}
# Agents explore better on data of slower learners, with fewer windows of reward (docs/log.md).
DATA = {**point_mass.DATA, "default": {"collect.updates_per_iteration": 10}}
UPDATES = point_mass.UPDATES

SPEC = EnvSpec("point_robot_sparse", obs_dim=2, action_dim=2, max_episode_steps=60)
START_LOW = np.array([-1.5, -0.5])
START_SIZE = np.array([3.0, 2.0])


def start(xp, noise, rest, task):
    """Start position [..., 2], uniform on [-1.5, 1.5] x [-0.5, 1.5]; it may lie inside the goal.

    For noise [..., 2] uniform on [0, 1)^2.
    """
    return xp.asarray(START_LOW) + xp.asarray(START_SIZE) * noise


def reward(xp, before, after, action, task):
    """1 if the step led to within `GOAL_RADIUS` of the goal, else 0: [...] of positions."""
    return xp.where(success(xp, before, after, action, task), 1.0, 0.0)


def success(xp, before, after, action, task):
    """Whether the step led to within `GOAL_RADIUS` of the goal."""
    return xp.linalg.norm(after - task["goal"], axis=-1) <= GOAL_RADIUS


def optimum(start, task) -> np.ndarray:
    """Largest possible return of one episode, exactly.

    A step k can pay only if the box of the positions reachable in k steps comes within
    `GOAL_RADIUS` of the goal. The boxes grow, so that from the first such k on every step can pay,
    and the path of `distance_after` collects all of them: `60 - k + 1`, or 0 if there is none.

    Args:
        start: [..., 2] first observation of an episode, which is its first position.
        task: `{"goal": [..., 2]}`, broadcast against `start`.
    """
    distance = distance_after(start, task["goal"], SPEC.max_episode_steps)
    return (distance <= GOAL_RADIUS).sum(-1).astype(float)


FAMILY = Family(
    name=SPEC.name,
    specs={"default": SPEC},
    law=half_circle.LAW,
    label=half_circle.label,
    start=start,
    observe=point_mass.observe,
    reward=reward,
    body=point_mass.BODY,
    success=success,
    optimum=optimum,
    sparse=True,
    goal=lambda tasks: tasks["goal"],
    goal_radius=GOAL_RADIUS,
    backend="point_mass",
)
