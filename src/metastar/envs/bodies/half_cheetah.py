"""The half-cheetah: the body that the cheetah families share; a family adds tasks and a reward.

Gymnasium's v4 model file (Wawrzynski's planar cheetah, 9 degrees of freedom, 6 motors of range
[-1, 1]), simulated at 0.01 s and controlled every 5 steps, 0.05 s. The functions take states
(`envs.state.State` with leaves [..., 9]) in NumPy or in `jax.numpy`.
"""

import jax
import numpy as np

from metastar.config.fields import Field
from metastar.envs.family import Body
from metastar.envs.state import State
from metastar.types import Array, EnvSpec

DEFAULTS = {
    "profile": Field(
        "default", ("default", "reference"), "what is observed: docs/families.md", before="default"
    ),
}

# How data sets of the cheetah families are made. Two learners that observe the task (SAC and TD3)
# replace two for each of fifty tasks, which hardly learn to run in the updates that a few minutes
# allow. `paper` does as the MetaSTAR reference code.
_OURS = {
    "data.ood_tasks": 5,
    "collect.behavior": "mixture",
    "collect.shared_learner": True,
    "collect.cross_task_episodes": 4,
    "collect.updates_per_iteration": 400,
    "collect.sac.hidden": (256, 256),
    "collect.sac.lr": 1e-3,
    "collect.sac.alpha": 0.05,
    "collect.sac.tau": 0.01,
    "collect.td3.hidden": (256, 256),
    "collect.td3.lr": 1e-3,
    "collect.td3.tau": 0.01,
    "collect.td3.policy_delay": 1,
}
DATA = {
    "default": {**_OURS, "collect.iterations": 100},
    "quick": {
        **_OURS,
        "collect.random_episodes": 10,
        "collect.iterations": 30,
        "collect.episodes_per_iteration": 3,
    },
    "debug": {
        **_OURS,
        "data.train_tasks": 4,
        "data.test_tasks": 2,
        "data.ood_tasks": 1,
        "collect.random_episodes": 3,
        "collect.iterations": 2,
        "collect.episodes_per_iteration": 2,
        "collect.updates_per_iteration": 4,
        "collect.cross_task_episodes": 1,
        "collect.sac.hidden": (16, 16),
        "collect.sac.batch_size": 16,
        "collect.td3.hidden": (16, 16),
        "collect.td3.batch_size": 16,
    },
    "paper": {
        "env.profile": "reference",
        "collect.iterations": 500,
        "collect.updates_per_iteration": 200,
        "collect.sac.hidden": (128, 128),
        "collect.sac.alpha": 0.2,
        "collect.td3.hidden": (128, 128),
    },
}
UPDATES = {"": 20_000, "quick": 10_000, "debug": 10, "paper": 200_000}

DT = 0.05  # seconds per action
NUM_JOINTS = 9
POSITION_NOISE = 0.1  # half width of the uniform noise on every position at a reset
VELOCITY_NOISE = 0.1  # standard deviation of the normal noise on every velocity
TORSO_HEIGHT = 0.7  # metres: height of the torso's frame at qpos[1] = 0


def profiles(name: str) -> dict[str, EnvSpec]:
    """Sizes of a cheetah family by observation profile.

    `default` leaves out the position along the track: nothing depends on it, and an agent that runs
    faster than those in the data soon has positions that the data do not contain. `reference` is
    the observation of the MetaSTAR reference code, which ends in the torso's absolute position.
    """
    return {
        "default": EnvSpec(name, obs_dim=17, action_dim=6, max_episode_steps=200),
        "reference": EnvSpec(name, obs_dim=20, action_dim=6, max_episode_steps=200),
    }


def draw_reset(key: Array) -> State:
    """Draws a reset's noise: uniform on [-1, 1] for positions, standard normal for velocities."""
    key_position, key_velocity = jax.random.split(key)
    return State(
        jax.random.uniform(key_position, (NUM_JOINTS,), minval=-1.0),
        jax.random.normal(key_velocity, (NUM_JOINTS,)),
    )


def start(xp, noise: State, rest: State, task) -> State:
    """Where an episode begins: the model's rest state plus noise."""
    return State(
        rest.qpos + POSITION_NOISE * noise.qpos,
        rest.qvel + VELOCITY_NOISE * noise.qvel,
    )


def observe(xp, state: State, profile: str):
    """Observation [..., O] of a state: positions without the first (absolute x), then velocities.

    `reference` adds the torso's x, y, z in metres. The reference reads these before the last of the
    five simulation steps, 0.01 s earlier than the joints; here an observation is of one moment.
    """
    parts = [state.qpos[..., 1:], state.qvel]
    if profile == "reference":
        x, z = state.qpos[..., 0], state.qpos[..., 1] + TORSO_HEIGHT
        parts.append(xp.stack([x, xp.zeros_like(x), z], -1))
    return xp.concatenate(parts, -1)


def speed(before: State, after: State):
    """Mean forward speed [...] of the torso over one action, between two states, in m/s."""
    return (after.qpos[..., 0] - before.qpos[..., 0]) / DT


def control_cost(xp, action):
    """`0.05 |a|^2`: [...] of actions [..., A]."""
    return 0.05 * xp.square(action).sum(-1)


def positions(obs: np.ndarray, profile: str) -> np.ndarray:
    """Positions [T+1, 9] to draw from the observations [T+1, O] of a recorded episode.

    An observation holds every position but x, how far along the track it is: with the profile
    "reference" x is the third number from the end; otherwise it is the integral of the forward
    speed by the trapezoid rule, with x = 0 at first. This x only moves the floor of a picture.
    """
    inner = NUM_JOINTS - 1
    if profile == "reference":
        x = obs[:, -3]
    else:
        speed = obs[:, inner]
        step = DT * (speed[1:] + speed[:-1]) / 2
        x = np.concatenate([[0.0], np.cumsum(step)])
    return np.concatenate([x[:, None], obs[:, :inner]], 1)


BODY = Body(draw_reset, model="half_cheetah.xml", frame_skip=5, dt=DT, positions=positions)
