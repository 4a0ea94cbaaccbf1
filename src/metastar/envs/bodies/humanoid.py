"""The humanoid of gymnasium's `humanoid.xml`: 24 positions, 23 velocities, 17 motors of ±0.4.

Simulated at 0.003 s and controlled every 5 steps, 0.015 s. The functions take states
(`envs.state.State`) in NumPy or in `jax.numpy`.
"""

import functools

import numpy as np

from metastar.envs.bodies import legged
from metastar.envs.family import Body
from metastar.envs.state import State

DT = 0.015  # seconds per action
MOTOR_RANGE = 0.4  # of the control that an action of 1 is
NUM_OBS, NUM_MOTORS = 45, 17
HEALTHY_HEIGHT = (1.0, 2.0)  # metres, gym's Humanoid
NEWTON = 2  # mujoco.mjtSolver
start = legged.starts(0.01, 0.01)  # half widths of uniform noise


def observe(xp, state: State, profile: str):
    """Observation [..., 45]: positions without x and y, then velocities."""
    return xp.concatenate([state.qpos[..., 2:], state.qvel], -1)


def velocity(xp, before: State, after: State):
    """Mean velocity [..., 2] of the centre of mass in the plane over one action, in m/s.

    The code bases read it before the last of the five simulation steps, 0.003 s earlier.
    """
    then, now = _center()(xp, xp.stack([before.qpos, after.qpos]))
    return (now - then)[..., :2] / DT


def fallen(xp, before, after, action, task):
    """Whether the torso is below 1 m or above 2 m: [...] bool."""
    low, high = HEALTHY_HEIGHT
    height = after.qpos[..., 2]
    return (height < low) | (height > high)


def positions(obs: np.ndarray, profile: str) -> np.ndarray:
    """Positions [T+1, 24] to draw from the observations [T+1, 45] of a recorded episode.

    x and y are the integral of the torso's velocity.
    """
    return np.concatenate([legged.travelled(obs[:, 22:24], DT), obs[:, :22]], 1)


@functools.cache
def _center():
    # Here, since configs read this file without MuJoCo.
    from metastar.envs.backends.physics import load_model
    from metastar.envs.bodies.kinematics import center_of_mass

    return center_of_mass(load_model(BODY))


# The file asks for the solver PGS, which MJX does not have.
BODY = Body(
    legged.resets(24, 23, legged.uniform),
    model="humanoid.xml",
    options={"solver": NEWTON},
    frame_skip=5,
    dt=DT,
    positions=positions,
)
FILE_BODY = BODY._replace(options={})  # the C engine only
