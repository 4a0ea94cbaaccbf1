"""Imagination: a policy acts in a model."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.types import Array, Trajectory

DEFAULTS = {
    "num_rollouts": Field(8, COUNT, "R, rollouts of a task in an update"),
    "horizon": Field(1, COUNT, "H, steps of a rollout"),
    "restart": Field(
        False, "", "after a terminal a rollout starts again at its first state", before=False
    ),
}


class ImagineNoise(NamedTuple):
    """Draws of one rollout, leaves [H, ...]."""

    step: Any  # the model's, per step
    action: Any  # the policy's, per step


def imagine(
    step_fn: Callable,
    policy_fn: Callable,
    obs: Array,
    carry: Any,
    noise: ImagineNoise,
    horizon: int,
    restart: bool = False,
) -> Trajectory:
    """Rolls out ONE trajectory; vmap it over rollouts and tasks.

    Args:
        step_fn: (carry, action, noise) -> (StepOut, carry); the world model's or any other.
        policy_fn: (obs, noise) -> action.
        obs: [O] the first state.
        carry: the model's state there.
        noise: leaves [horizon, ...].
        horizon: H, number of steps.
        restart: after a terminal, start again from the first state, with new draws; otherwise the
            model's steps go on from the terminal.

    Returns:
        Trajectory with leaves [H, ...]. Steps after a terminal have `valid` False unless `restart`;
        the caller decides what to do with them.

    >>> from metastar.types import StepOut
    >>> def step_fn(carry, action, noise):  # a world in which the state is the sum of all actions
    ...     obs = carry + action + noise
    ...     return StepOut(obs, obs.sum(), jnp.array(False)), obs
    >>> noise = ImagineNoise(step=jnp.zeros((3, 1)), action=jnp.zeros((3, 1)))
    >>> start = jnp.zeros(1)
    >>> imagine(step_fn, lambda obs, noise: obs + 1, start, start, noise, 3).reward.tolist()
    [1.0, 3.0, 7.0]
    """

    start = obs, carry, jnp.asarray(True)

    def step(state, step_noise):
        obs, carry, valid = state
        action = policy_fn(obs, step_noise.action)
        out, carry = step_fn(carry, action, step_noise.step)
        row = Trajectory(obs, action, out.reward, out.obs, out.done, valid)
        state = out.obs, carry, valid & ~out.done
        if restart:
            state = jax.tree.map(partial(jnp.where, out.done), start, state)
        return state, row

    _, trajectory = jax.lax.scan(step, start, noise, length=horizon)
    return trajectory
