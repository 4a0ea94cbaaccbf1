"""The schedule of learning rates over a phase."""

from typing import Any

import jax
import jax.numpy as jnp

from metastar.types import Array


def decayed(hp: Any, decays: Any, kind: str, updates_done: Array, num_updates: int) -> Any:
    """Traced numbers at a point of a phase; learning rates are constant or a cosine down to 0.

    The cosine starts with a linear warm-up over the first twentieth: without one a post-norm
    Transformer is unstable at rates that train it quickly (Xiong et al. 2020, arXiv 2002.04745).

    Args:
        hp: traced numbers.
        decays: a bool for each of them: whether it follows the schedule (`Field.decays`).
        kind: "none" or "cosine".
        updates_done: [] int, since the phase began.
        num_updates: of the phase.
    """
    if kind == "none":
        return hp
    share = updates_done / num_updates
    warm_up = jnp.minimum(1, 20 * (updates_done + 1) / num_updates)
    factor = warm_up * 0.5 * (1 + jnp.cos(jnp.pi * share))
    return jax.tree.map(lambda x, decay: x * factor if decay else x, hp, decays)
