"""Bounded and discrete latents: finite scalar quantisation, simplices, straight-through samples."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metastar.types import Array

_REACH = 1.001  # the bound lies this factor beyond the outermost levels, so that they are reached


def fsq(x: Array, levels: Sequence[int]) -> tuple[Array, Array]:
    """Finite scalar quantisation of groups of channels, with the gradient of the bound alone.

    Channel c of a group has L levels: with `h = 1.001 (L - 1) / 2` and o = 1/2 for even L, else 0,

        y = h tanh(x + atanh(o / h)) - o,  code = round(y) / floor(L / 2)

    and the gradient is as if rounding were the identity. Mentzer et al. 2023, "Finite Scalar
    Quantization" (arXiv 2309.15505), section 3 and appendix A.

    Args:
        x: [..., G * C], channels side by side in each group.
        levels: L of each of the C channels, at least 2.

    Returns:
        Codes [..., G * C], and the index [..., G] of each group's code, the first channel fastest.

    >>> codes, index = fsq(jnp.array([-9.0, 0.1, 9.0, -9.0]), (5, 3))
    >>> codes.tolist(), index.tolist()
    ([-1.0, 0.0, 1.0, -1.0], [5, 4])
    """
    x_GxC = x.reshape(*x.shape[:-1], -1, len(levels))
    half, offset, unit, stride = (
        jnp.expand_dims(jnp.asarray(row, x.dtype), range(x.ndim)) for row in _table(levels)
    )
    shift = jnp.arctanh(offset / half)
    bounded = jnp.tanh(x_GxC + shift) * half - offset
    rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
    index = ((jnp.round(bounded) + unit) * stride).sum(-1).astype(jnp.int32)
    return (rounded / unit).reshape(x.shape), index


def codebook(levels: Sequence[int]) -> Array:
    """All codes of a group, by index: [K, C], K the product of the levels.

    >>> codebook((5, 3))[jnp.array([0, 1, 5])].tolist()
    [[-1.0, -1.0], [-0.5, -1.0], [-1.0, 0.0]]
    """
    _, _, unit, stride = (jnp.asarray([row], float) for row in _table(levels))
    index = jnp.arange(math.prod(levels))[:, None]
    return (index // stride % jnp.asarray([levels]) - unit) / unit


def simnorm(x: Array, size: int) -> Array:
    """Softmax within blocks of `size` entries: [..., D] -> [..., D], D a multiple of it.

    Hansen et al. 2024, "TD-MPC2" (arXiv 2310.16828), section 3.1.

    >>> simnorm(jnp.zeros(4), 2).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    return jax.nn.softmax(x.reshape(*x.shape[:-1], -1, size), axis=-1).reshape(x.shape)


def straight_through_sample(logits: Array, gumbel: Array) -> Array:
    """One-hot vectors [..., K] of a sample, with the gradient of `softmax(logits + gumbel)`.

    Jang et al. 2017, "Categorical Reparameterization with Gumbel-Softmax" (arXiv 1611.01144),
    section 2.2, at temperature 1.

    Args:
        logits: [..., K].
        gumbel: standard Gumbel noise, like `logits`.

    >>> [round(float(x), 6) for x in straight_through_sample(jnp.zeros(2), jnp.array([0.0, 1.0]))]
    [0.0, 1.0]
    """
    soft = jax.nn.softmax(logits + gumbel)
    hard = jax.nn.one_hot(jnp.argmax(logits + gumbel, -1), logits.shape[-1], dtype=soft.dtype)
    return hard - jax.lax.stop_gradient(soft) + soft


def _table(levels: Sequence[int]) -> tuple[list, list, list, list]:
    """Half width, offset, steps from 0 to 1 and stride in the index, of each channel."""
    half = [_REACH * (num - 1) / 2 for num in levels]
    offset = [0.0 if num % 2 else 0.5 for num in levels]
    stride = [math.prod(levels[:c]) for c in range(len(levels))]
    return half, offset, [num // 2 for num in levels], stride
