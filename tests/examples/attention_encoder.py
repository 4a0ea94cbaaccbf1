"""An encoder in one file: which transitions of a context count is learned.

Attention pooling, as CORRO (Yuan and Lu 2022, arXiv 2206.10442) aggregates its transitions.
"""

import jax
import jax.numpy as jnp

from metastar.config import Field
from metastar.models.nets.mlp import MLP
from metastar.types import Codes, DataSpec, Encoder

KIND = "encoder"
DEFAULTS = {
    "hidden": Field((64, 64), "[1, inf)", "widths of the hidden layers"),
    "code_dim": Field(5, "[1, inf)", "Z"),
    "context": Field("bag", ("bag", "window"), "what it learns from"),
    "context_len": Field(64, "[1, inf)", "L, transitions of it"),
}


def make(cfg, spec: DataSpec) -> Encoder:
    """`z = sum_t softmax_t(w_t) tanh(f_t)` over valid transitions, (f_t, w_t) = net(s, a, r)."""
    net = MLP(cfg.hidden, cfg.code_dim + 1)

    def init(key):
        return net.init(key, jnp.zeros(spec.obs_dim + spec.action_dim + 1))["params"]

    def encode(params, view, noise):
        x = jnp.concatenate([view.obs, view.action, view.reward[..., None]], -1)
        out = net.apply({"params": params}, x)  # [..., L, Z + 1]
        each, score = jnp.tanh(out[..., :-1]), out[..., -1]
        weight = jax.nn.softmax(score, where=view.valid)
        return Codes(jnp.sum(weight[..., None] * each, -2), each)

    return Encoder(init, encode)
