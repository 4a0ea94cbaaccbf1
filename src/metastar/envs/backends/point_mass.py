"""The simulator of the point robots: a massless point on an unbounded plane.

A family defines where a robot starts and its reward, as functions of `(xp, ...)` with `xp` either
`numpy` or `jax.numpy`; this file moves the point: `p' = p + 0.1 clip(a, -1, 1) + w`, at most 0.1
length units per step and coordinate, plus the wind w of the task where the family's body has an
edit. The state is the position [..., 2], and so is the observation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar.config.fields import Field
from metastar.envs.family import Body, Family
from metastar.envs.outcome import outcome
from metastar.errors import UserError
from metastar.types import Array, Env

DEFAULTS = {
    "terminal_at_goal": Field(False, "", "record a step that ends in the goal as terminal"),
}
# Presets of the data sets, and how many updates a training preset has on them.
DATA = {
    # A fifth of the reference's updates, so that data and a training fit an hour.
    "default": {"collect.updates_per_iteration": 100},
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


class Plane(NamedTuple):
    """The model of a plane: what a body's `edit` may change for each task."""

    wind: Array | None = None  # [2] length units that a step adds; None: the air is still


def draw_reset(key: Array) -> Array:
    """The noise of a start: [2], uniform on [0, 1)^2."""
    return jax.random.uniform(key, (2,))


def positions(obs: np.ndarray, profile: str) -> np.ndarray:
    """Positions [T+1, 2] of a recorded episode: its observations."""
    return obs


BODY = Body(draw_reset, positions=positions)


def make_env(family: Family, profile: str, cfg: ConfigDict) -> Env:
    """Builds the simulator of one point-robot family.

    Args:
        family: the record; its body's `edit` changes a `Plane`.
        profile: of the observation.
        cfg: the config. With `env.terminal_at_goal` a step that ends in the goal is recorded as
            done although the episode goes on to its time limit, as the reference's replay does
            (MetaSTAR's code); otherwise the family says what is terminal.

    Returns:
        An `Env` for one task and one episode.

    Raises:
        UserError: `env.terminal_at_goal` in a family that knows no success.
    """
    terminal_at_goal, edit = cfg.env.terminal_at_goal, family.body.edit
    if terminal_at_goal and family.success is None:
        raise UserError(
            f"family {family.name!r} has no goal that could be terminal; "
            "set env.terminal_at_goal=False"
        )

    def prepare(tasks):
        if edit is None:
            return Plane()
        return jax.vmap(lambda task: edit(Plane(), task))(jax.tree.map(jnp.asarray, tasks))

    def reset(noise, task, plane):
        position = family.start(jnp, noise, jnp.zeros(2), task)
        return position, family.observe(jnp, position, profile)

    def step(position, action, task, plane):
        after = move(jnp, position, action, plane.wind)
        out = outcome(jnp, family, profile, position, after, action, task)
        return after, out._replace(done=out.success) if terminal_at_goal else out

    return Env(family.specs[profile], family.body.draw_reset, reset, step, prepare=prepare)


def move(xp, position, action, wind=None):
    """Where an action leads: `p + 0.1 clip(a, -1, 1) + w`, arrays [..., 2]."""
    after = position + STEP_SIZE * xp.clip(action, -1, 1)
    return after if wind is None else after + wind


def observe(xp, position, profile):
    """The observation [..., 2] is the position; it never shows the task."""
    return position


def distance_after(
    start: np.ndarray, goal: np.ndarray, num_steps: int, wind: np.ndarray | float = 0.0
) -> np.ndarray:
    """Smallest possible distance to the goal after 1, ..., `num_steps` steps, in float64.

    In k steps each coordinate can get from p to anywhere between `p - (0.1 - w) k` and
    `p + (0.1 + w) k`, independently of the other, and nowhere else. The distance to that box is
    `sqrt(sum_i max(|g_i - p_i| - (0.1 + s_i w_i) k, 0)^2)`, s the sign of g - p. While the wind is
    weaker than a step, `|w| <= 0.1`, one path attains it at every k at once: each coordinate goes
    straight to the goal's at full speed and stays there, so that after k steps the robot is at the
    point of the box that is nearest to the goal.

    Args:
        start: [..., 2].
        goal: [..., 2], broadcast against `start`.
        num_steps: T.
        wind: [..., 2], broadcast against `start`.

    Returns:
        [..., T].
    """
    way = np.asarray(goal, float) - np.asarray(start, float)
    speed = STEP_SIZE + np.sign(way) * np.asarray(wind, float)
    reach = speed[..., None, :] * np.arange(1, num_steps + 1)[:, None]
    return np.linalg.norm(np.maximum(np.abs(way)[..., None, :] - reach, 0), axis=-1)
