"""Attention pooling: a weighted mean of codes, with weights that are learned."""

import flax.linen as nn
import jax.numpy as jnp

from metastar.models.nets.mlp import linear
from metastar.types import Array


class AttentionPooling(nn.Module):
    """`sum_t softmax_t(w . x_t + b) x_t` over the valid t: [..., L, Z] -> [..., Z].

    The aggregator of CORRO (Yuan and Lu 2022, arXiv 2206.10442). Zero where nothing is valid.
    """

    @nn.compact
    def __call__(self, each: Array, valid: Array) -> tuple[Array, Array]:
        """Returns the mean and its weights [..., L], for `valid` [..., L] bool."""
        score = linear(1, each.shape[-1], "score")(each)[..., 0]
        score = jnp.where(valid, score, -jnp.inf)
        most = jnp.max(score, -1, keepdims=True)
        weight = jnp.where(valid, jnp.exp(score - jnp.where(jnp.isfinite(most), most, 0)), 0)
        weight = weight / jnp.maximum(weight.sum(-1, keepdims=True), 1e-30)
        return jnp.sum(weight[..., None] * each, -2), weight
