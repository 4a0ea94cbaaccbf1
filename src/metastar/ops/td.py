"""Temporal-difference targets."""

from typing import Any

import jax
import jax.numpy as jnp

from metastar.types import Array


def soft_target(
    reward: Array, done: Array, gamma: Array, next_q: Array, alpha: Array, next_log_prob: Array
) -> Array:
    """Soft Bellman target `r + gamma (1 - done) (q' - alpha log pi')`.

    Soft actor-critic, Haarnoja et al. 2018 (arXiv 1801.01290), equations 2 and 3.

    Args:
        reward: [...].
        done: [...] bool; true at a true terminal, where nothing follows.
        gamma: [] discount.
        next_q: [...] value of the next action, usually the lower of two target critics.
        alpha: [] entropy weight.
        next_log_prob: [...] log-density of the next action, in nats.

    Returns:
        [...].

    >>> done = jnp.array([False, True])
    >>> target = soft_target(jnp.ones(2), done, 0.9, jnp.ones(2), 0.5, jnp.ones(2))
    >>> [round(float(y), 4) for y in target]
    [1.45, 1.0]
    """
    follow = reward + gamma * (next_q - alpha * next_log_prob)
    return jnp.where(done, reward, follow)


def discounted_return(reward: Array, gamma: Array) -> Array:
    """`sum_t gamma^t r_t` of rewards [..., T] -> [...]; what follows the last one counts as 0.

    >>> float(discounted_return(jnp.array([1.0, 2.0, 4.0]), 0.5))
    3.0
    """
    return reward @ gamma ** jnp.arange(reward.shape[-1])


def polyak(online: Any, target: Any, tau: Array) -> Any:
    """Moves a target towards the online parameters: `(1 - tau) target + tau online`, leafwise.

    >>> round(float(polyak({"w": jnp.ones(())}, {"w": jnp.zeros(())}, 0.25)["w"]), 4)
    0.25
    """
    return jax.tree.map(lambda o, t: (1 - tau) * t + tau * o, online, target)
