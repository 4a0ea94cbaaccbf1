"""Scale and rank of the code: every dimension varies over tasks, and none repeats another."""

from typing import Any

import jax
import jax.numpy as jnp

from metastar.ops.contrastive import covariance_terms
from metastar.types import DataSpec, TaskLoss

DEFAULTS = {}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """Variance and covariance terms of VICReg (Bardes et al. 2022, arXiv 2105.04906, eq. 1 and 3).

    `mean_z max(0, 1 - std_z) + mean_z max(0, std_z - 1) + 1/Z sum_{z != z'} cov_zz'^2` over the
    codes of each view. The second term is ours: it bounds the scale from above, which theirs
    leaves to the invariance term.
    """
    del cfg, spec, code_dim

    def loss(params, codes, batch, noise, hp):
        stacked = jnp.stack([code.task for code in codes.values()])
        terms = jax.vmap(covariance_terms)(stacked)
        std, off_diagonal = terms[0], terms[1].mean()
        scale = jnp.abs(1 - std).mean()
        return scale + off_diagonal, {"spread_std": std.mean(), "spread_covariance": off_diagonal}

    return TaskLoss(views=("context",), loss=loss)
