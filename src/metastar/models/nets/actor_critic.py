"""Actor and twin critics on an observation joined with a task code."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastar.models.nets.mlp import LAYERS, hidden_layers
from metastar.ops import gaussian
from metastar.types import Array

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class Actor(nn.Module):
    """Tanh-Gaussian actor: [..., n] -> mean and log standard deviation before tanh, [..., A]."""

    hidden: tuple[int, ...]
    action_dim: int
    log_std_max: float = LOG_STD_MAX
    layers: str = "relu"

    @nn.compact
    def __call__(self, obs_code: Array) -> tuple[Array, Array]:
        """Returns the mean and the log standard deviation, clipped to [-20, `log_std_max`]."""
        output = LAYERS[self.layers].output
        x = hidden_layers(obs_code, self.hidden, self.layers)
        mean = output(self.action_dim, 1e-3, "mean")(x)
        log_std = output(self.action_dim, 1e-3, "log_std")(x)
        return mean, jnp.clip(log_std, LOG_STD_MIN, self.log_std_max)


class Critic(nn.Module):
    """State-action value of one action [..., A] or of K actions [..., K, A] at [..., n]."""

    hidden: tuple[int, ...]
    layers: str = "relu"

    @nn.compact
    def __call__(self, obs_code: Array, action: Array) -> Array:
        """Returns [...] or [..., K]; the first layer's product with the state is computed once."""
        layers = LAYERS[self.layers]
        state = layers.hidden(self.hidden[0], "hidden_0")(obs_code)
        if action.ndim > obs_code.ndim:
            state = state[..., None, :]
        action = layers.hidden(self.hidden[0], "hidden_0_action", False)(action)
        x = layers.activate(state + action, "hidden_0")
        x = hidden_layers(x, self.hidden[1:], self.layers, first=1)
        return layers.output(1, 3e-3, "output")(x)[..., 0]


def init_actor(key: Array, actor: Actor, obs_code_dim: int) -> Any:
    """Draws an actor's parameters."""
    return actor.init(key, jnp.zeros(obs_code_dim))["params"]


def init_twin_critic(key: Array, critic: Critic, obs_code_dim: int, action_dim: int) -> Any:
    """Draws the parameters of two critics, stacked: every leaf has a leading axis of length 2."""

    def init(key):
        return critic.init(key, jnp.zeros(obs_code_dim), jnp.zeros(action_dim))["params"]

    return jax.vmap(init)(jax.random.split(key, 2))


def twin_q(critic: Critic, params: Any, obs_code: Array, action: Array) -> Array:
    """Values of both critics: [2, ...] for an action [..., A], [2, ..., K] for [..., K, A]."""
    return jax.vmap(lambda p: critic.apply({"params": p}, obs_code, action))(params)


def sample_action(actor: Actor, params: Any, obs_code: Array, noise: Array) -> tuple[Array, Array]:
    """Draws actions of the actor with given standard normal noise.

    Args:
        actor: the module.
        params: its parameters.
        obs_code: [..., n].
        noise: [..., A], or [..., K, A] for K actions per state.

    Returns:
        Action like `noise`, and its log-density [...] or [..., K] in nats.
    """
    mean, log_std = actor.apply({"params": params}, obs_code)
    if noise.ndim > mean.ndim:
        mean, log_std = mean[..., None, :], log_std[..., None, :]
    return gaussian.tanh_normal_sample(mean, log_std, noise)


def greedy_action(actor: Actor, params: Any, obs_code: Array) -> Array:
    """The deterministic action `tanh(mean)`: [..., n] -> [..., A]."""
    return jnp.tanh(actor.apply({"params": params}, obs_code)[0])
