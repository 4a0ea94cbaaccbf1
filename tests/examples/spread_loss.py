"""A task loss in one file: codes of one task agree, codes of different tasks spread out.

Source: VICReg (Bardes et al. 2022, arXiv 2105.04906), without its covariance term.
"""

import jax.numpy as jnp

from metastar.config import Field
from metastar.types import DataSpec, TaskLoss

KIND = "task loss"
DEFAULTS = {
    "margin": Field(1.0, "[0, inf)", "least standard deviation that is asked for", swept=True),
}


def make(cfg, spec: DataSpec, code_dim: int) -> TaskLoss:
    """`mean (z - z')^2 + mean_z max(0, margin - std z)`; z, z' are codes of windows of a task."""

    def loss(params, codes, batch, noise, hp):
        code, other = codes["context"].task, codes["positive"].task  # [M, Z]
        agree = jnp.mean((code - other) ** 2)
        std = jnp.sqrt(jnp.var(code, axis=0) + 1e-4)
        spread = jnp.mean(jnp.maximum(hp["margin"] - std, 0))
        return agree + spread, {"spread_std": std.mean()}

    return TaskLoss(views=("context", "positive"), loss=loss)
