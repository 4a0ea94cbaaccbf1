"""Conditional entropy: the code must not determine the actions that a generator makes from it."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field, Like
from metastar.errors import UserError
from metastar.models.nets.mlp import MLP
from metastar.types import DataSpec, Opponent, TaskLoss

DEFAULTS = {
    "width": Field(
        Like("world_model.width", fallback=128),
        COUNT,
        "of the hidden layers of the generator, and of the discriminator; ER-TRL's generator 200",
    ),
    "generator_layers": Field(2, COUNT, "hidden layers of the generator; ER-TRL 3", before=2),
    "discriminator_width": Field(
        0, NOT_NEGATIVE, "of its two hidden layers; 0: as `width`; ER-TRL 256", before=0
    ),
    "noise_dim": Field(
        0, NOT_NEGATIVE, "of the generator's noise; 0: as the code; ER-TRL 20", before=0
    ),
    "rows": Field(
        0,
        NOT_NEGATIVE,
        "states of each task: this many of the agent's rows, ER-TRL 256; 0: those of the context",
        before=0,
    ),
    "turns": Field(
        "together",
        ("together", "one_by_one"),
        "whether the two networks take their steps together, or first the discriminator and then "
        "the generator against it (ER-TRL)",
        before="together",
    ),
    "lr": Field(
        1e-4,
        RATE,
        "learning rate of the generator and the discriminator; ER-TRL 2e-4",
        swept=True,
        decays=True,
        before=1e-4,
    ),
    "inner_steps": Field(1, COUNT, "steps of the opponent in an update; ER-TRL 5", before=1),
}

_RIDGE = 1e-5  # on the covariance of the actions
_TURNS = {"together": (), "one_by_one": ("discriminator", "generator")}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """`-H(a | z)`: minus the entropy of actions generated from (s, z, noise), a Gaussian's.

    ER-TRL: the opponent, a generator G(s, z, e) and a discriminator D(s, a, z) that learn by the
    non-saturating loss (Goodfellow et al. 2014, arXiv 1406.2661), imitates the behaviour; the code
    is trained, through the generator, to make `1/2 log det(2 pi e (Cov(a) + 1e-5 I))` over the
    states of each task large. It is the entropy over states and noise together, which also grows
    where states spread.

    Raises `UserError`, when it is used, if it is to have rows of the agent and there are none.
    """
    noise_dim = cfg.noise_dim or code_dim
    init, generate, judge = _networks(cfg, spec, code_dim, noise_dim)
    stop = jax.lax.stop_gradient

    def given(codes, batch):
        """The states, actions and codes [M, n, ...] that the networks see."""
        view = _rows(cfg, batch)
        code = codes["context"].task
        return view, jnp.broadcast_to(code[:, None], (*view.reward.shape, code_dim))

    def draw_noise(key, batch):
        return jax.random.normal(key, (*_rows(cfg, batch).reward.shape, noise_dim))

    def fit(params, codes, batch, noise):
        view, code = given(codes, batch)

        def cross_entropy(params, action, label):
            logit = judge(params, view.obs, action, code)
            each = optax.sigmoid_binary_cross_entropy(logit, jnp.full_like(logit, label))
            return jnp.where(view.valid, each, 0).sum() / view.valid.sum()

        fake = generate(params, view.obs, code, noise)
        generator = cross_entropy(stop(params), fake, 1.0)
        real = cross_entropy(params, view.action, 1.0)
        discriminator = real + cross_entropy(params, stop(fake), 0.0)
        return generator + discriminator, {"discriminator_loss": discriminator}

    def loss(params, codes, batch, noise, hp):
        view, code = given(codes, batch)
        action = generate(params, view.obs, code, noise)
        entropy = jax.vmap(_entropy)(action, view.valid).mean()
        return -entropy, {"generated_entropy": entropy}

    opponent = Opponent(init, fit, draw_noise, cfg.inner_steps, _TURNS[cfg.turns])
    return TaskLoss(("context",), loss, draw_noise=draw_noise, opponent=opponent)


def _networks(cfg, spec, code_dim, noise_dim):
    """Their `init`, actions G(s, z, e) of the generator and logits D(s, a, z)."""
    nets = {
        "generator": MLP((cfg.width,) * cfg.generator_layers, spec.action_dim),
        "discriminator": MLP((cfg.discriminator_width or cfg.width,) * 2, 1),
    }
    inputs = {
        "generator": spec.obs_dim + code_dim + noise_dim,
        "discriminator": spec.obs_dim + spec.action_dim + code_dim,
    }

    def init(key):
        keys = jax.random.split(key, len(nets))
        return {
            name: net.init(k, jnp.zeros((1, inputs[name])))["params"]
            for k, (name, net) in zip(keys, nets.items())
        }

    def apply(params, name, *columns):
        return nets[name].apply({"params": params[name]}, jnp.concatenate(columns, -1))

    def generate(params, obs, code, noise):
        return jnp.tanh(apply(params, "generator", obs, code, noise))

    def judge(params, obs, action, code):
        return apply(params, "discriminator", obs, action, code)[..., 0]

    return init, generate, judge


def _rows(cfg, batch):
    """The view [M, n] whose states and actions are imitated."""
    if not cfg.rows:
        return batch.views["context"]
    if "real" not in batch.views:
        raise UserError(
            "conditional_entropy.rows is above 0, but this phase of the training has no rows of an "
            "agent; set it to 0, or use method 'contextual'"
        )
    return jax.tree.map(lambda x: x[:, : cfg.rows] if x.ndim > 1 else x, batch.views["real"])


def _entropy(action, valid):
    """`1/2 log det(2 pi e (Cov + ridge))` of the valid actions [L, A], nats."""
    num, dim = valid.sum(), action.shape[-1]
    centred = action - (valid[:, None] * action).sum(0, keepdims=True) / num
    covariance = (valid[:, None] * centred).T @ centred / jnp.maximum(num - 1, 1)
    log_det = jnp.linalg.slogdet(covariance + _RIDGE * jnp.eye(dim))[1]
    return 0.5 * (log_det + dim * (1 + math.log(2 * math.pi)))
