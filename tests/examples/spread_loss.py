"""A task loss in one file: codes of one task agree, codes of different tasks spread out.

Source: VICReg (Bardes et al. 2022, arXiv 2105.04906), without its covariance term.
"""

import jax.numpy as jnp

from metastar.types import TaskLoss


def make(cfg, spec) -> TaskLoss:
    """`mean (z - z')^2 + mean_z max(0, 1 - std z)`; z, z' are codes of two windows of a task."""
    return TaskLoss(views=("context", "positive"), loss=_loss)


def _loss(params, codes, batch, noise):
    code, other = codes["context"], codes["positive"]  # [M, Z]
    agree = jnp.mean((code - other) ** 2)
    std = jnp.sqrt(jnp.var(code, axis=0) + 1e-4)
    spread = jnp.mean(jnp.maximum(1 - std, 0))
    return agree + spread, {"spread_std": std.mean()}
