"""A world model in a latent space without a decoder: encoder, task-conditioned dynamics, reward.

SPC (arXiv 2603.02935), after DC-MPC (arXiv 2503.00653). A `kind` names how latents are bounded and
how predictions are compared with targets: those of the paper's ablation (its Fig. 4). Sizes: H
steps, D entries of a latent, G groups of C channels with K codes each, Z of the task code.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.models.nets.mlp import MLP
from metastar.ops.quantize import codebook, fsq, simnorm, straight_through_sample
from metastar.types import Array, DataSpec

KINDS = (
    "discrete_ce",
    "discrete_mse",
    "discrete_cosine",
    "continuous_mse",
    "continuous_cosine",
    "simnorm_mse",
    "simnorm_cosine",
)
DEFAULTS = {
    "kind": Field(
        "discrete_ce",
        KINDS,
        "latents (discrete: quantised; simnorm: on simplices; continuous: free) and the error of "
        "predictions (ce: classification, of sampled codes; mse and cosine: of latents)",
    ),
    "groups": Field(512, COUNT, "G, groups of channels of a latent; SPC 512"),
    "levels": Field((5, 3), "[2, inf)", "levels of each channel of a group; SPC 5, 3"),
    "matched_width": Field(
        True,
        "",
        "whether latents of the other kinds are as wide as those of discrete_ce, groups * channels;"
        " those of SPC's code have `groups` entries, half as many",
    ),
    "simplex": Field(8, "[2, inf)", "entries of a simplex of simnorm; SPC 8"),
    "encoder_hidden": Field((512,), COUNT, "hidden layers of the observation encoder; SPC 512"),
    "hidden": Field((512, 512), COUNT, "of dynamics and reward, each; SPC 512, 512"),
}


def check(cfg: Any) -> None:
    """Raises `UserError` for a latent that cannot be divided into its parts; `cfg` as in `make`."""
    size, width = width_of(cfg), {"discrete": len(cfg.levels), "simnorm": cfg.simplex}
    part = width.get(cfg.kind.partition("_")[0], 1)
    if size % part:
        raise UserError(
            f"world_model.kind={cfg.kind!r} divides a latent into parts of {part} entries, but it "
            f"has {size}; make world_model.groups a multiple of {part}"
        )


class LatentModel(NamedTuple):
    """The model as functions of its parameters: "encoder", "dynamics" and "reward"."""

    size: int  # D
    init: Callable  # (key) -> params
    encode: Callable  # (params of the encoder, obs [..., O]) -> latent [..., D]
    # (params of the encoder, obs [..., O]) -> what predictions are compared with: the indices of
    # the codes [..., G], or a latent [..., D]
    target: Callable
    # (params, latent [..., D], action [..., A], code [..., Z]) -> prediction: logits [..., G, K],
    # or a latent [..., D]
    predict: Callable
    advance: Callable  # (prediction, noise) -> next latent [..., D]
    reward: Callable  # (params, latent, action, code) -> [...]
    error: Callable  # (prediction, target) -> [...]
    draw_noise: Callable  # (key, shape) -> Gumbel noise [*shape, G, K], or None
    classifies: bool  # predictions are logits


def make(cfg: Any, spec: DataSpec, code_dim: int) -> LatentModel:
    """Binds the model to its settings, the section `world_model` of a config."""
    bound, _, error = cfg.kind.partition("_")
    classifies = error == "ce"
    size = width_of(cfg)
    num_codes = math.prod(cfg.levels)
    bounds = {
        "continuous": lambda x: x,
        "simnorm": partial(simnorm, size=cfg.simplex),
        "discrete": lambda x: fsq(x, cfg.levels)[0],
    }
    encoder = MLP(cfg.encoder_hidden, size, layers="norm_mish")
    dynamics = MLP(cfg.hidden, cfg.groups * num_codes if classifies else size, layers="norm_mish")
    reward_net = MLP(cfg.hidden, 1, layers="norm_mish")
    width = size + spec.action_dim + code_dim

    def init(key: Array) -> dict:
        keys = jax.random.split(key, 3)
        nets = {"encoder": encoder, "dynamics": dynamics, "reward": reward_net}
        sizes = (spec.obs_dim, width, width)
        return {
            name: net.init(k, jnp.zeros(num))["params"]
            for (name, net), k, num in zip(nets.items(), keys, sizes)
        }

    def encode(params, obs):
        return bounds[bound](encoder.apply({"params": params}, obs))

    def target(params, obs):
        x = encoder.apply({"params": params}, obs)
        return fsq(x, cfg.levels)[1] if classifies else bounds[bound](x)

    def predict(params, latent, action, code):
        x = dynamics.apply({"params": params["dynamics"]}, _join(latent, action, code))
        if classifies:
            return x.reshape(*x.shape[:-1], cfg.groups, num_codes)
        return latent + x  # as in SPC's code, neither quantised nor on simplices

    def advance(prediction, noise):
        if not classifies:
            return prediction
        codes = straight_through_sample(prediction, noise) @ codebook(cfg.levels)
        return codes.reshape(*codes.shape[:-2], size)

    def reward(params, latent, action, code):
        x = _join(latent, action, code)
        return reward_net.apply({"params": params["reward"]}, x)[..., 0]

    def draw_noise(key, shape):
        return jax.random.gumbel(key, (*shape, cfg.groups, num_codes)) if classifies else None

    return LatentModel(
        *(size, init, encode, target, predict, advance, reward, ERRORS[error], draw_noise),
        classifies=classifies,
    )


def rollout(
    model: LatentModel, params: Any, obs: Array, action: Array, code: Array, noise: Any
) -> tuple[Array, Array]:
    """Predicts latents under recorded actions, one rollout; the gradient passes every step.

    Args:
        model: of `make`.
        params: of it.
        obs: [O] the first observation, which alone is encoded.
        action: [H, A].
        code: [Z].
        noise: of `draw_noise`, [H, G, K] or None.

    Returns:
        The latents [H + 1, D] and the predictions of the last H of them.
    """

    def step(latent, now):
        action, noise = now
        prediction = model.predict(params, latent, action, code)
        return model.advance(prediction, noise), (latent, prediction)

    first = model.encode(params["encoder"], obs)
    last, (latents, predictions) = jax.lax.scan(step, first, (action, noise))
    return jnp.concatenate([latents, last[None]]), predictions


def width_of(cfg: Any) -> int:
    """D, entries of a latent."""
    wide = cfg.kind == "discrete_ce" or cfg.matched_width
    return cfg.groups * (len(cfg.levels) if wide else 1)


def cross_entropy(logits: Array, index: Array) -> Array:
    """Mean over the groups of the cross-entropy, nats: [..., G, K] and int [..., G] -> [...].

    >>> round(float(cross_entropy(jnp.zeros((2, 15)), jnp.array([3, 14]))), 4)  # log 15
    2.7081
    """
    log_prob = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_prob, index[..., None], -1)[..., 0].mean(-1)


def squared_error(prediction: Array, target: Array) -> Array:
    """Mean over the entries of the squared difference: two of [..., D] -> [...]."""
    return ((prediction - target) ** 2).mean(-1)


def cosine_error(prediction: Array, target: Array) -> Array:
    """Minus the cosine of two of [..., D], each length at least 1e-8: [...].

    >>> float(cosine_error(jnp.array([0.0, 2.0]), jnp.array([0.0, 3.0])))
    -1.0
    """
    unit = [
        x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-8)
        for x in (prediction, target)
    ]
    return -(unit[0] * unit[1]).sum(-1)


ERRORS = {"ce": cross_entropy, "mse": squared_error, "cosine": cosine_error}


def _join(latent: Array, action: Array, code: Array) -> Array:
    code = jnp.broadcast_to(code, (*latent.shape[:-1], code.shape[-1]))
    return jnp.concatenate([latent, action, code], -1)
