"""Learning rates over a phase."""

import jax.numpy as jnp

from metastar.types import Array, HyperParams


def decayed(hp: HyperParams, cfg, updates_done: Array, num_updates: int) -> HyperParams:
    """Learning rates at a point of a phase: constant, or a cosine that ends at zero.

    The cosine starts with a linear warm-up over the first twentieth: without one a post-norm
    Transformer is unstable at rates that train it quickly (Xiong et al. 2020, arXiv 2002.04745).
    """
    if cfg.train.lr_decay == "none":
        return hp
    share = updates_done / num_updates
    warm_up = jnp.minimum(1, 20 * (updates_done + 1) / num_updates)
    factor = warm_up * 0.5 * (1 + jnp.cos(jnp.pi * share))
    rates = {name: getattr(hp, name) * factor for name in hp._fields if name.startswith("lr_")}
    return hp._replace(**rates)
