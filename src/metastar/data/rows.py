"""Rows of a meta-batch with their task codes: what an agent learns from."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.types import Array, Batch, Trajectory, View


class Transitions(NamedTuple):
    """Rows [R, ...] of a meta-batch, real or imagined; `obs` and `next_obs` have the same code."""

    obs_code: Array  # [R, O+Z]
    action: Array  # [R, A]
    reward: Array  # [R]
    next_obs_code: Array  # [R, O+Z]
    done: Array  # [R] bool
    real: Array  # [R] bool: False where imagined


def join_code(obs: Array, code: Array) -> Array:
    """Appends the code [M, Z] of each task to its observations [M, ..., O]."""
    middle = (1,) * (obs.ndim - 2)
    code = code.reshape(code.shape[0], *middle, code.shape[-1])
    return jnp.concatenate([obs, jnp.broadcast_to(code, (*obs.shape[:-1], code.shape[-1]))], -1)


def real_transitions(batch: Batch, code: Array) -> Transitions:
    """The "real" view [M, B] of a batch with the codes [M, Z], leaves [M, B, ...]."""
    return _transitions(batch.views["real"], code, jnp.ones_like)


def sequence_transitions(view: View, code: Array, see: Callable) -> Transitions:
    """Sequences [M, B, H] with the codes [M, Z] as rows, leaves [M, B * H, ...].

    `see(obs [..., O])` [..., D] takes the place of observations.
    """
    view = view._replace(obs=see(view.obs), next_obs=see(view.next_obs))
    rows = _transitions(view, code, jnp.ones_like)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), rows)


def imagined_transitions(trajectory: Trajectory, code: Array) -> Transitions:
    """Imagined rollouts [M, R, H] with their codes [M, R, Z] as rows, leaves [M, R * H, ...]."""
    by_rollout = jax.vmap(partial(_transitions, flag=jnp.zeros_like))(trajectory, code)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), by_rollout)


def flatten(rows: Transitions, num_batches: int = 1) -> Transitions:
    """Rows [M, num_batches * B, ...] of a meta-batch as an agent takes them.

    Leaves [M * B, ...] by task, or [num_batches, M * B, ...] of several batches.

    >>> rows = Transitions(*[jnp.arange(8).reshape(2, 4)] * 6)
    >>> flatten(rows).reward.tolist(), flatten(rows, 2).reward.tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7], [[0, 1, 4, 5], [2, 3, 6, 7]])
    """

    def batched(x):
        parts = x.reshape(x.shape[0], num_batches, -1, *x.shape[2:]).swapaxes(0, 1)
        return parts.reshape(num_batches, -1, *x.shape[2:])

    if num_batches == 1:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    return jax.tree.map(batched, rows)


def concatenate(*parts: Transitions) -> Transitions:
    """Joins the rows of each task, [M, B, ...], in this order."""
    return jax.tree.map(lambda *x: jnp.concatenate(x, 1), *parts)


def _transitions(rows: View | Trajectory, code: Array, flag: Callable) -> Transitions:
    """Rows [M, B, ...] with the codes [M, Z]; `flag` makes `real` from an array of its shape."""
    return Transitions(
        obs_code=join_code(rows.obs, code),
        action=rows.action,
        reward=rows.reward,
        next_obs_code=join_code(rows.next_obs, code),
        done=rows.done,
        real=flag(rows.done),
    )
