"""The actor's loss."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from metastar.models.nets.actor_critic import Actor, greedy_action, sample_action
from metastar.types import Array


def loss(
    params: Any,
    obs_code: Array,
    noise: Array,
    alpha: Array,
    actor: Actor,
    q_fn: Callable,
    data_action: Array | None = None,
    real: Array | None = None,
    cloning: Array | float = 0.0,
) -> tuple[Array, dict[str, Array]]:
    """`mean [alpha log pi(a|s) - min_i Q_i(s, a)]`, a ~ pi reparameterised.

    Soft actor-critic, Haarnoja et al. 2018 (arXiv 1812.05905), equation 9. With actions of the
    data, plus `cloning * mean_real |tanh(mean(s)) - a_data|^2 / A`, the behaviour-cloning term of
    TD3+BC, Fujimoto and Gu 2021 (arXiv 2106.06860), equation 3.

    Args:
        params: the actor's parameters.
        obs_code: [M, n].
        noise: [M, A] standard normal.
        alpha: [] entropy weight.
        actor: the module.
        q_fn: (obs_code, action) -> [2, M]; its parameters get no gradient.
        data_action: [M, A]; None leaves the cloning term out.
        real: [M] bool: rows whose action is one of the data.
        cloning: [] weight of the cloning term.

    Returns:
        Scalar and metrics; `entropy` is in nats.
    """
    action, log_prob = sample_action(actor, params, obs_code, noise)
    value = q_fn(obs_code, action).min(axis=0)
    total = (alpha * log_prob - value).mean()
    metrics = {"actor_loss": total, "entropy": -log_prob.mean()}
    if data_action is None:
        return total, metrics
    error = jnp.square(greedy_action(actor, params, obs_code) - data_action).mean(-1)
    error = jnp.where(real, error, 0).sum() / jnp.maximum(real.sum(), 1)
    return total + cloning * error, {**metrics, "cloning_error": error}
