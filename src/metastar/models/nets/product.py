"""Matrix products of dense layers, in the precision that the caller has set."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metastar.types import Array


def dot_general(lhs: Array, rhs: Array, dims: Any, precision: Any = None) -> Array:
    """`jax.lax.dot_general`; inside `jax.default_matmul_precision("bfloat16")` in bfloat16.

    With that setting operands are rounded to bfloat16 on every device, in the backward products
    too; sums and the result are in float32. In JAX itself its meaning depends on the device.

    Args:
        lhs: as in `lax.dot_general`.
        rhs: likewise.
        dims: its dimension numbers.
        precision: its precision; None is the one that the caller has set.

    Returns:
        As `lax.dot_general`, in the type of `lhs`.
    """
    if jax.config.jax_default_matmul_precision != "bfloat16":
        return jax.lax.dot_general(lhs, rhs, dims, precision=precision)
    return _rounded(dims, lhs, rhs)


def _round(x: Array) -> Array:
    return x.astype(jnp.bfloat16)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rounded(dims, lhs, rhs):
    product = jax.lax.dot_general(
        _round(lhs), _round(rhs), dims, preferred_element_type=jnp.float32
    )
    return product.astype(lhs.dtype)


def _forward(dims, lhs, rhs):
    return _rounded(dims, lhs, rhs), (lhs, rhs)


def _backward(dims, operands, cotangent):
    """Products of rounded operands, whose results keep bfloat16 until they are cast."""
    rounded = map(_round, operands)
    _, pull = jax.vjp(lambda lhs, rhs: jax.lax.dot_general(lhs, rhs, dims), *rounded)
    return tuple(g.astype(x.dtype) for g, x in zip(pull(_round(cotangent)), operands))


_rounded.defvjp(_forward, _backward)
