"""Densities of an actor by their name in a config: how its two outputs define actions."""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from metastar.models.nets.actor_critic import Actor
from metastar.models.nets.mlp import LAYERS, hidden_layers
from metastar.ops import gaussian
from metastar.types import Array

# Deterministic behaviour has no maximum likelihood: the density grows without limit as the standard
# deviation shrinks. SPC's bounds.
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class GaussianActor(nn.Module):
    """Gaussian actor around a mean in [-1, 1]: [..., n] -> mean and log deviation, [..., A].

    `mean = tanh(m)`, `log_std = low + (high - low) (tanh(l) + 1) / 2` of two linear heads m and l.
    SPC (arXiv 2603.02935), section on policy learning.
    """

    hidden: tuple[int, ...]
    action_dim: int
    low: float = LOG_STD_MIN
    high: float = LOG_STD_MAX
    layers: str = "relu"

    @nn.compact
    def __call__(self, obs_code: Array) -> tuple[Array, Array]:
        """Returns the mean and the log standard deviation."""
        output = LAYERS[self.layers].output
        x = hidden_layers(obs_code, self.hidden, self.layers)
        mean = output(self.action_dim, 1e-3, "mean")(x)
        log_std = output(self.action_dim, 1e-3, "log_std")(x)
        return bounded(mean, log_std, self.low, self.high)


def bounded(
    mean: Array, log_std: Array, low: float = LOG_STD_MIN, high: float = LOG_STD_MAX
) -> tuple[Array, Array]:
    """Mean in [-1, 1] and log standard deviation in [low, high] of two heads, all [...].

    >>> mean, log_std = bounded(jnp.zeros(()), jnp.zeros(()), -5.0, 2.0)
    >>> float(mean), float(log_std)
    (0.0, -1.5)
    """
    return jnp.tanh(mean), low + 0.5 * (high - low) * (jnp.tanh(log_std) + 1)


def normal_log_prob(mean: Array, log_std: Array, action: Array) -> Array:
    """Log-density in nats of actions under a diagonal Gaussian, without a term for bounds.

    Args:
        mean: [..., A].
        log_std: [..., A].
        action: [..., A].

    Returns:
        [...].

    >>> zeros = jnp.zeros(2)
    >>> round(float(normal_log_prob(zeros, zeros, zeros)), 4)  # -log(2 pi)
    -1.8379
    """
    noise = (action - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi), axis=-1)


def normal_draw(mean: Array, log_std: Array, noise: Array) -> Array:
    """Draws `clip(mean + std noise, -1, 1)`; all [..., A]."""
    return jnp.clip(mean + jnp.exp(log_std) * noise, -1, 1)


def _tanh_log_prob(mean: Array, log_std: Array, action: Array) -> Array:
    return gaussian.tanh_normal_log_prob(mean, jnp.maximum(log_std, LOG_STD_MIN), action)


def _tanh_draw(mean: Array, log_std: Array, noise: Array) -> Array:
    return jnp.tanh(mean + jnp.exp(jnp.maximum(log_std, LOG_STD_MIN)) * noise)


class ActorForm(NamedTuple):
    """A network with two outputs, mean and log standard deviation [..., A], and their density."""

    net: Callable  # (hidden, action_dim, layers=) -> module: obs_code [..., n] -> two of [..., A]
    log_prob: Callable  # (mean, log_std, action [..., A]) -> [...] in nats
    draw: Callable  # (mean, log_std, noise [..., A]) -> action in [-1, 1]; noise 0: the greedy one


FORMS = {
    "gaussian": ActorForm(GaussianActor, normal_log_prob, normal_draw),
    "tanh_gaussian": ActorForm(Actor, _tanh_log_prob, _tanh_draw),
}
