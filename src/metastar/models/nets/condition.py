"""How a task code enters a network: it changes the features that a head reads."""

import flax.linen as nn
import jax.numpy as jnp

from metastar.models.nets.mlp import linear
from metastar.types import Array

KINDS = ("none", "concat", "add", "film", "token")


class Condition(nn.Module):
    """Features [..., n] and a code [..., Z] -> features.

    "none" leaves the features as they are. So does "token": there the code has entered the core
    that made them (`world_model.see_code`). "concat" appends the code, "add" adds a linear map of
    it, and "film" scales and shifts by linear maps of it: `x (1 + A z) + B z` (Perez et al. 2018,
    arXiv 1709.07871, equation 2).
    """

    kind: str

    @nn.compact
    def __call__(self, x: Array, code: Array) -> Array:
        """Takes codes with as many axes as the features, or one less where time is missing."""
        if self.kind in ("none", "token"):  # the code may be None
            return x
        if code.ndim < x.ndim:
            code = jnp.expand_dims(code, -2)
        if self.kind == "concat":
            return jnp.concatenate([x, jnp.broadcast_to(code, (*x.shape[:-1], code.shape[-1]))], -1)
        if self.kind == "film":
            x = x * (1 + linear(x.shape[-1], code.shape[-1], "scale")(code))
        return x + linear(x.shape[-1], code.shape[-1], "shift")(code)
