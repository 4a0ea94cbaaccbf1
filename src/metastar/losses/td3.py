"""Twin delayed deterministic policy gradient: the target's smoothed action and the actor's losses.

Fujimoto et al. 2018 (arXiv 1802.09477); with behaviour cloning, Fujimoto and Gu 2021 (arXiv
2106.06860).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastar.models.nets.actor_critic import Actor, greedy_action
from metastar.types import Array


def smoothed_action(
    hp: dict, actor: Actor, params: Any, obs_code: Array, noise: Array
) -> tuple[Array, Array]:
    """The target's action `clip(pi'(s) + clip(sigma eps, -c, c), -1, 1)`, and 0 for its entropy.

    Args:
        hp: `smoothing_noise` is sigma, `smoothing_clip` is c.
        actor: the module.
        params: of the target actor.
        obs_code: [B, n].
        noise: eps [B, A], standard normal.

    Returns:
        [B, A] and [B].
    """
    limit = hp["smoothing_clip"]
    shift = jnp.clip(hp["smoothing_noise"] * noise, -limit, limit)
    action = jnp.clip(greedy_action(actor, params, obs_code) + shift, -1, 1)
    return action, jnp.zeros(action.shape[:-1])


def actor_loss(
    params: Any, obs_code: Array, q_fn: Callable, actor: Actor
) -> tuple[Array, dict[str, Array]]:
    """`-mean Q_1(s, pi(s))`: scalar and no metrics."""
    return -q_fn(obs_code, greedy_action(actor, params, obs_code))[0].mean(), {}


def cloning_actor_loss(
    params: Any, obs_code: Array, action: Array, q_fn: Callable, weight: Array, actor: Actor
) -> tuple[Array, dict[str, Array]]:
    """`-weight mean Q_1(s, pi(s)) / mean |Q_1(s, pi(s))| + mean (pi(s) - a)^2`: equation 5.

    The second mean is over rows and dimensions; the denominator gets no gradient.

    Args:
        params: of the actor.
        obs_code: [R, n].
        action: [R, A] of the data.
        q_fn: (obs_code, action) -> [2, R]; its parameters get no gradient.
        weight: [] alpha of the paper.
        actor: the module.

    Returns:
        Scalar and metrics.
    """
    own = greedy_action(actor, params, obs_code)
    q = q_fn(obs_code, own)[0]
    scale = jax.lax.stop_gradient(jnp.abs(q).mean())
    error = jnp.mean((own - action) ** 2)
    loss = error - weight * q.mean() / scale
    return loss, {"actor_loss": loss, "cloning_error": error}
