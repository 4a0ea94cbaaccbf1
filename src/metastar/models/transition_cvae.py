"""A conditional variational autoencoder of transitions: which rewards and next states there are.

Sohn et al. 2015 (NeurIPS), as CORRO (Yuan and Lu 2022, arXiv 2206.10442) has it. It sees the
transitions of all tasks as one set, so that a draw for a state and an action is what some training
task might have answered.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.models.nets.mlp import MLP
from metastar.types import Array, DataSpec

DEFAULTS = {
    "hidden": Field((64,), COUNT, "widths of the hidden layers; CORRO one of 64 to 128"),
    "latent_dim": Field(5, COUNT, "D; CORRO 5, ant 64"),
}


class TransitionCvae(NamedTuple):
    """The model as functions of its parameters; leading axes [...] are any."""

    init: Callable  # (key) -> params
    encode: Callable  # (params, obs, action, reward, next_obs) -> mean, log-variance [..., D]
    decode: Callable  # (params, obs, action, latent [..., D]) -> reward [...], next_obs [..., O]
    latent_dim: int


def make(cfg: Any, spec: DataSpec) -> TransitionCvae:
    """Binds `q(x | s, a, r, s')` and the decoder `(s, a, x) -> s', r` to the settings."""
    encoder, decoder = MLP(cfg.hidden, 2 * cfg.latent_dim), MLP(cfg.hidden, spec.obs_dim + 1)
    given = spec.obs_dim + spec.action_dim

    def init(key: Array) -> dict:
        key_encoder, key_decoder = jax.random.split(key)
        answer = jnp.zeros(given + 1 + spec.obs_dim)
        return {
            "encoder": encoder.init(key_encoder, answer)["params"],
            "decoder": decoder.init(key_decoder, jnp.zeros(given + cfg.latent_dim))["params"],
        }

    def encode(params, obs, action, reward, next_obs):
        x = jnp.concatenate([obs, action, reward[..., None], next_obs], -1)
        return jnp.split(encoder.apply({"params": params["encoder"]}, x), 2, -1)

    def decode(params, obs, action, latent):
        x = jnp.concatenate([obs, action, latent], -1)
        out = decoder.apply({"params": params["decoder"]}, x)
        return out[..., -1], out[..., :-1]

    return TransitionCvae(init, encode, decode, cfg.latent_dim)
