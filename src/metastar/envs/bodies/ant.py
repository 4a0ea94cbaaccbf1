"""The ant: the body that the ant families share; a family adds tasks and a reward.

Gymnasium's `ant.xml` (15 positions, 14 velocities, 8 motors of range [-1, 1]), which every code
base ships, simulated at 0.01 s and controlled every 5 steps, 0.05 s. The functions take states
(`envs.state.State`) in NumPy or in `jax.numpy`.
"""

import jax
import numpy as np

from metastar.envs.bodies import legged
from metastar.envs.family import Body
from metastar.envs.state import State
from metastar.types import EnvSpec

DT = 0.05  # seconds per action
HEALTHY_HEIGHT = (0.2, 1.0)  # metres: outside the ant has fallen or jumped (gym's Ant)
GOAL_CONTROL_COST = 0.1  # times |a|^2, of the families with a goal
GOAL_RADIUS = 0.2  # metres, of CORRO's sparse half circle; elsewhere it only counts successes
start = legged.starts(0.1, 0.1)  # uniform on positions; normal on velocities, its deviation


def spec(name: str, place: bool, ends: bool = False) -> EnvSpec:
    """Sizes of a family: with `place` 29 numbers are observed, else 27; `ends` if it may fall."""
    return EnvSpec(name, 29 if place else 27, 8, legged.STEPS, done_ends_episode=ends)


def observe(xp, state: State, profile: str):
    """Observation [..., 27]: positions without x and y, then velocities."""
    return xp.concatenate([state.qpos[..., 2:], state.qvel], -1)


def observe_place(xp, state: State, profile: str):
    """Observation [..., 29]: all positions, x and y first, then all velocities."""
    return xp.concatenate([state.qpos, state.qvel], -1)


def velocity(before: State, after: State):
    """Mean velocity [..., 2] of the torso in the plane over one action, in m/s.

    The code bases read the torso before the last of the five simulation steps, 0.01 s earlier.
    """
    return (after.qpos[..., :2] - before.qpos[..., :2]) / DT


def healthy(xp, state: State):
    """Whether the torso is between 0.2 and 1 m high: [...] bool."""
    low, high = HEALTHY_HEIGHT
    return (state.qpos[..., 2] >= low) & (state.qpos[..., 2] <= high)


def goal_reward(xp, before, after, action, task):
    """`-|x - g|_1 - 0.1 |a|^2`: [...] of states; x the torso's place after the step, g the goal."""
    distance = xp.abs(after.qpos[..., :2] - task["goal"]).sum(-1)
    return -distance - GOAL_CONTROL_COST * xp.square(action).sum(-1)


def sparse_reward(xp, before, after, action, task):
    """1 if the step led to within `GOAL_RADIUS` of the goal, else 0; minus `0.1 |a|^2`."""
    paid = xp.where(reached(xp, before, after, action, task), 1.0, 0.0)
    return paid - GOAL_CONTROL_COST * xp.square(action).sum(-1)


def reached(xp, before, after, action, task):
    """Whether the step led to within `GOAL_RADIUS` of the goal."""
    return xp.linalg.norm(after.qpos[..., :2] - task["goal"], axis=-1) <= GOAL_RADIUS


def positions(obs: np.ndarray, profile: str) -> np.ndarray:
    """Positions [T+1, 15] to draw from the observations [T+1, 27 or 29] of a recorded episode.

    Where x and y are not observed they are the integral of the torso's velocity.
    """
    if obs.shape[1] == 29:
        return obs[:, :15]
    return np.concatenate([legged.travelled(obs[:, 13:15], DT), obs[:, :13]], 1)


BODY = Body(
    legged.resets(15, 14, jax.random.normal),
    model="ant.xml",
    frame_skip=5,
    dt=DT,
    positions=positions,
)
