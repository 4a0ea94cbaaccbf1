"""A mean over many rows, and its gradient, a few rows at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastar.types import Array


def mean_over_rows(fn: Callable, params: Any, rows: Any, tile: int = 0) -> Array:
    """`mean_i fn(params, row_i)`, differentiable in `params`; the rows are data.

    Plain differentiation stores the intermediate values of all rows until the backward pass. With
    `tile` > 0 a scan takes that many rows at a time through the forward and the backward pass and
    adds up their gradients, so that intermediate values stay in the cache. The sum is the same up
    to its order. Only the first derivative in `params` exists then, and rows get no gradient.

    Args:
        fn: (params, row) -> [], of ONE row.
        params: what may be differentiated.
        rows: leaves [S, ...].
        tile: rows at a time; the first tile takes the remainder of S. 0 takes all at once.

    Returns:
        [].

    >>> rows = jnp.arange(5.0)
    >>> float(mean_over_rows(lambda scale, x: scale * x, 3.0, rows, tile=2))
    6.0
    """
    num = len(jax.tree.leaves(rows)[0])

    def total(params, rows):
        return jax.vmap(fn, (None, 0))(params, rows).sum()

    if tile == 0 or tile >= num:
        return total(params, rows) / num

    def add_up(fn, rows):
        first = num % tile or tile
        rest = jax.tree.map(lambda x: x[first:].reshape(-1, tile, *x.shape[1:]), rows)

        def add(so_far, rows):
            return jax.tree.map(jnp.add, so_far, fn(rows)), None

        return jax.lax.scan(add, fn(jax.tree.map(lambda x: x[:first], rows)), rest)[0]

    @jax.custom_vjp
    def tiled(params, rows):
        return add_up(lambda rows: total(params, rows), rows)

    def forward(params, rows):
        return add_up(lambda rows: jax.value_and_grad(total)(params, rows), rows)

    def backward(gradient, cotangent):
        return jax.tree.map(lambda g: cotangent * g, gradient), None

    tiled.defvjp(forward, backward)
    return tiled(params, rows) / num
