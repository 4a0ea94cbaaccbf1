"""Conditional entropy: the code must not determine the actions that a generator makes from it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastar.config.fields import COUNT, RATE, Field, Like
from metastar.models.nets.mlp import MLP
from metastar.types import DataSpec, Opponent, TaskLoss

DEFAULTS = {
    "width": Field(
        Like("world_model.width", fallback=128),
        COUNT,
        "of the two hidden layers of the generator, and of the discriminator",
    ),
    "lr": Field(
        1e-4,
        RATE,
        "learning rate of the generator and the discriminator",
        swept=True,
        decays=True,
        before=1e-4,
    ),
    "inner_steps": Field(1, COUNT, "steps of the opponent in an update", before=1),
}

_RIDGE = 1e-5  # on the covariance of the actions


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """`-H(a | z)`: minus the entropy of actions generated from (s, z, noise), a Gaussian's.

    ER-TRL: the opponent, a generator G(s, z, e) and a discriminator D(s, a, z) that learn by the
    non-saturating loss (Goodfellow et al. 2014, arXiv 1406.2661), imitates the behaviour; the code
    is trained, through the generator, to make `1/2 log det(Cov(a) + 1e-5 I)` over the states of
    each window large. It is the entropy over states and noise together, which also grows where
    states spread. The reference has five `inner_steps`.
    """
    hidden = (cfg.width,) * 2
    nets = {"generator": MLP(hidden, spec.action_dim), "discriminator": MLP(hidden, 1)}
    inputs = {"generator": spec.obs_dim + 2 * code_dim}
    inputs["discriminator"] = spec.obs_dim + spec.action_dim + code_dim
    stop = jax.lax.stop_gradient

    def init(key):
        keys = jax.random.split(key, len(nets))
        return {
            name: net.init(k, jnp.zeros((1, inputs[name])))["params"]
            for k, (name, net) in zip(keys, nets.items())
        }

    def draw_noise(key, batch):
        return jax.random.normal(key, (*batch.views["context"].reward.shape, code_dim))

    def generate(params, codes, batch, noise):
        code = jnp.broadcast_to(codes["context"].task[:, None], noise.shape)
        x = jnp.concatenate([batch.views["context"].obs, code, noise], -1)
        return jnp.tanh(nets["generator"].apply({"params": params["generator"]}, x))

    def fit(params, codes, batch, noise):
        view = batch.views["context"]
        code = jnp.broadcast_to(codes["context"].task[:, None], noise.shape)

        def judge(params, action):
            x = jnp.concatenate([view.obs, action, code], -1)
            return nets["discriminator"].apply({"params": params["discriminator"]}, x)[..., 0]

        def cross_entropy(logit, label):
            each = optax.sigmoid_binary_cross_entropy(logit, jnp.full_like(logit, label))
            return jnp.where(view.valid, each, 0).sum() / view.valid.sum()

        fake = generate(params, codes, batch, noise)
        generator = cross_entropy(judge(stop(params), fake), 1.0)
        real = cross_entropy(judge(params, view.action), 1.0)
        discriminator = (real + cross_entropy(judge(params, stop(fake)), 0.0)) / 2
        return generator + discriminator, {"discriminator_loss": discriminator}

    def loss(params, codes, batch, noise, hp):
        valid = batch.views["context"].valid
        entropy = jax.vmap(_entropy)(generate(params, codes, batch, noise), valid).mean()
        return -entropy, {"generated_entropy": entropy}

    opponent = Opponent(init, fit, draw_noise, cfg.inner_steps)
    return TaskLoss(("context",), loss, draw_noise=draw_noise, opponent=opponent)


def _entropy(action, valid):
    """`1/2 log det(Cov + ridge)` of the valid actions [L, A], nats up to a constant."""
    weight = valid[:, None] / valid.sum()
    centred = action - (weight * action).sum(0, keepdims=True)
    covariance = (weight * centred).T @ centred
    return 0.5 * jnp.linalg.slogdet(covariance + _RIDGE * jnp.eye(action.shape[-1]))[1]
