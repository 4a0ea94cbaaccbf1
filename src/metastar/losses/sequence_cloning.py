"""Imitation by a sequence model."""

from typing import Any

import jax.numpy as jnp

from metastar.models.nets.decision_transformer import DecisionTransformer, Keep, Steps
from metastar.types import Array


def loss(
    params: Any, steps: Steps, prompt: Steps | None, keep: Keep | None, net: DecisionTransformer
) -> tuple[Array, dict[str, Array]]:
    """`mean (a_t - pi(R_t, s_t, z_t, history, prompt))^2` over valid steps and entries.

    Chen et al. 2021 (arXiv 2106.01345); Meta-DT. Codes and targets are data.

    Args:
        params: of the net.
        steps: leaves [..., K, ...].
        prompt: leaves [..., k, ...], or None.
        keep: dropout, or None.
        net: the net.
    """
    found = net.apply({"params": params}, steps, prompt, keep)
    error = jnp.mean((found - steps.action) ** 2, where=steps.valid[..., None])
    return error, {"action_error": error}
