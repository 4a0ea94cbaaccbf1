"""The simulator of the point robots: a massless point on an unbounded plane.

A family says where a robot starts, what it sees and what it earns, as functions of
`(xp, ...)` with `xp` either `numpy` or `jax.numpy`; this file moves the point:
`p' = p + 0.1 clip(a, -1, 1)`, 0.1 length units per step and coordinate at most.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar.config.fields import Field
from metastar.types import Env, EnvSpec, StepOut

DEFAULTS = {
    "terminal_at_goal": Field(False, "", "record a step that ends in the goal as terminal"),
}
# Presets of the data sets, and how many updates a training preset has on them.
DATA = {
    "default": {},
    "quick": {
        "collect.random_episodes": 20,
        "collect.iterations": 30,
        "collect.episodes_per_iteration": 10,
        "collect.updates_per_iteration": 100,
    },
    "debug": {
        "data.train_tasks": 4,
        "data.test_tasks": 2,
        "collect.random_episodes": 3,
        "collect.iterations": 2,
        "collect.episodes_per_iteration": 2,
        "collect.updates_per_iteration": 4,
        "collect.sac.hidden": (16, 16),
        "collect.sac.batch_size": 16,
        "collect.td3.hidden": (16, 16),
        "collect.td3.batch_size": 16,
    },
    # The MetaSTAR reference code's way: random actions of +-0.1.
    "paper": {"env.terminal_at_goal": True, "collect.random_action_scale": 0.1},
}
UPDATES = {"": 50_000, "quick": 6_000, "debug": 10, "paper": 200_000}

STEP_SIZE = 0.1  # length units per step and coordinate at action 1


def make_env(family, spec: EnvSpec, cfg: ConfigDict) -> Env:
    """Builds the simulator of one point-robot family.

    Args:
        family: the module.
        spec: its sizes.
        cfg: the config. With `env.terminal_at_goal` a step that ends in the goal is recorded as
            done although the episode goes on to its time limit, as the reference's replay does
            (MetaSTAR's code); otherwise no step is ever terminal.

    Returns:
        An `Env` for one task and one episode; its reset noise is uniform on [0, 1)^2.
    """

    def draw_reset(key):
        return jax.random.uniform(key, (2,))

    def reset(noise, task):
        position = family.start(jnp, noise, task)
        return position, family.observe(jnp, position)

    def step(position, action, task):
        after = move(jnp, position, action)
        transition = (jnp, position, after, action, task)
        reached = family.goal_reached(*transition)
        out = StepOut(
            obs=family.observe(jnp, after),
            reward=family.reward(*transition),
            done=reached if cfg.env.terminal_at_goal else jnp.zeros_like(reached),
        )
        return after, out

    return Env(spec, draw_reset, reset, step)


def move(xp, position, action):
    """Where an action leads: `p + 0.1 clip(a, -1, 1)`, arrays [..., 2]."""
    return position + STEP_SIZE * xp.clip(action, -1, 1)


def distance_after(start: np.ndarray, goal: np.ndarray, num_steps: int) -> np.ndarray:
    """Smallest possible distance to the goal after 1, ..., `num_steps` steps, in float64.

    After k steps a robot can be anywhere in the box `p ± 0.1 k` and nowhere else, since each
    coordinate moves by at most 0.1 per step, freely of the other. The distance is that of the box:
    `sqrt(sum_i max(|g_i - p_i| - 0.1 k, 0)^2)`. One path attains it at every k at once: each
    coordinate goes straight to the goal's at full speed and stays there, so that after k steps the
    robot is at the point of the box that is nearest to the goal.

    Args:
        start: [..., 2].
        goal: [..., 2], broadcast against `start`.
        num_steps: T.

    Returns:
        [..., T].
    """
    reach = STEP_SIZE * np.arange(1, num_steps + 1)[:, None]
    gap = np.abs(np.asarray(goal, float) - np.asarray(start, float))[..., None, :]
    return np.linalg.norm(np.maximum(gap - reach, 0), axis=-1)
