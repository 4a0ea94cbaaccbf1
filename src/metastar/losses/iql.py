"""Implicit Q-learning: a state value by expectile regression, critics towards it, weighted cloning.

Kostrikov et al. 2021 (arXiv 2110.06169). No loss needs the value of an action that is not in the
data. Networks are given as functions of their parameters.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from metastar.ops.td import soft_target
from metastar.types import Array


def expectile_error(error: Array, expectile: Array) -> Array:
    """`|expectile - 1(u <= 0)| u^2` of each error u [...]: equation 3.

    Its mean over u = q - v is least where v is the expectile of q: the mean for 0.5, towards the
    largest value as it goes to 1.

    >>> [float(x) for x in expectile_error(jnp.array([2.0, -2.0]), 0.75)]
    [3.0, 1.0]
    """
    return jnp.where(error > 0, expectile, 1 - expectile) * error**2


def value_loss(
    params: Any, obs_code: Array, q: Array, expectile: Array, v_fn: Callable
) -> tuple[Array, dict[str, Array]]:
    """`mean L(min_i Q'_i(s, a) - V(s))`, L the expectile error: equation 5.

    Args:
        params: of the state value.
        obs_code: [R, n].
        q: [R] lower of the target critics at the data's actions; data.
        expectile: [] in (0, 1).
        v_fn: (params, obs_code) -> [R].

    Returns:
        Scalar and metrics.
    """
    v = v_fn(params, obs_code)
    loss = expectile_error(q - v, expectile).mean()
    return loss, {"value_loss": loss, "v_mean": v.mean()}


def critic_target(reward: Array, done: Array, gamma: Array, next_value: Array) -> Array:
    """`r + gamma (1 - done) V(s')`; all [R] but the discount []."""
    return soft_target(reward, done, gamma, next_value, 0.0, 0.0)


def critic_loss(
    params: Any, obs_code: Array, action: Array, target: Array, q_fn: Callable
) -> tuple[Array, dict[str, Array]]:
    """`mean_i mean (Q_i(s, a) - target)^2`: equation 6, with SPC's mean over the critics.

    Args:
        params: of the critics.
        obs_code: [R, n].
        action: [R, A].
        target: [R] of `critic_target`; data.
        q_fn: (params, obs_code, action) -> [2, R].

    Returns:
        Scalar and metrics.
    """
    q = q_fn(params, obs_code, action)
    loss = jnp.mean((q - target[None]) ** 2)
    return loss, {"critic_loss": loss, "q_mean": q.mean()}


def advantage_weight(advantage: Array, inverse_temperature: Array, clip: Array) -> Array:
    """`min(exp(inverse_temperature * advantage), clip)`: [R], of equation 7.

    >>> [round(float(w), 3) for w in advantage_weight(jnp.array([-1.0, 0.0, 9.0]), 3.0, 100.0)]
    [0.05, 1.0, 100.0]
    """
    return jnp.minimum(jnp.exp(inverse_temperature * advantage), clip)


def actor_loss(
    params: Any, obs_code: Array, action: Array, weight: Array, log_prob_fn: Callable
) -> tuple[Array, dict[str, Array]]:
    """`-mean weight log pi(a | s)` at the data's actions: equation 7 as a loss.

    Args:
        params: of the actor.
        obs_code: [R, n].
        action: [R, A].
        weight: [R] of `advantage_weight`; data.
        log_prob_fn: (params, obs_code, action) -> [R] in nats.

    Returns:
        Scalar and metrics.
    """
    log_prob = log_prob_fn(params, obs_code, action)
    loss = -(weight * log_prob).mean()
    return loss, {"actor_loss": loss, "log_prob": log_prob.mean(), "weight": weight.mean()}
