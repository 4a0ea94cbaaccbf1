"""The fastest a device could be: the rates of a program's matrix products, each run alone.

The floor of a program is the time of its matrix products alone, each at the rate the device reaches
at that very shape.
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.tools.bench.timing import rounds_for
from metastar.training.flops import Product, flops
from metastar.types import Array

_PROBE_SECONDS = 5e-2  # of one probe at least, so that its start takes no share
_COPY_BYTES = 2**28  # read; beyond any cache
_MAX_ROUNDS = 10_000


class Probe(NamedTuple):
    """A call whose time gives a rate of the device."""

    call: Callable[[], Any]
    amount: float  # floating-point operations, or bytes, of one call


def heaviest(found: Counter, share: float = 0.9, most: int = 6) -> list[Product]:
    """The products with most operations: as few as make up a `share` of all, at most `most`."""
    chosen, covered, total = [], 0.0, flops(found)
    for product in sorted(found, key=lambda p: p.flops * found[p], reverse=True)[:most]:
        if covered >= share * total:
            break
        chosen.append(product)
        covered += product.flops * found[product]
    return chosen


def matrix_rate(found: Counter, seconds: dict[Product, float]) -> float:
    """The rate, FLOP/s, of the products of a program at the seconds that each takes alone.

    Products that were not timed do not count.
    """
    timed = {p: num for p, num in found.items() if p in seconds}
    taken = sum(num * seconds[p] for p, num in timed.items())
    return flops(Counter(timed)) / taken if taken else math.nan


def product_probe(product: Product) -> Probe:
    """Runs one product alone, again and again for some milliseconds."""
    batch, m, k, n, dtype, precision = product
    key_a, key_b = jax.random.split(jax.random.key(0))
    a = jax.random.normal(key_a, (batch, m, k)).astype(dtype)
    b = jax.random.normal(key_b, (batch, k, n)).astype(dtype)
    precision = None if precision == "None" else jax.lax.Precision[precision]

    def run(num):
        return _again_and_again(a, b, num, precision)

    rounds = rounds_for(lambda: run(1), _PROBE_SECONDS, _MAX_ROUNDS)
    return Probe(lambda: run(rounds), product.flops * rounds)


@partial(jax.jit, static_argnums=3)
def _again_and_again(a: Array, b: Array, num: int, precision: Any) -> Array:
    """Multiplies [B, m, k] by [B, k, n] `num` times in a row; returns one entry of the last."""

    def one(_, last):
        # Each round needs the product of the last, so that none can be left out; the smaller
        # operand carries it, since that one is copied.
        small_right = a.size > b.size
        left = a if small_right else a.at[0, 0, 0].set(last)
        right = b.at[0, 0, 0].set(last) if small_right else b
        out = jax.lax.dot_general(left, right, (((2,), (1,)), ((0,), (0,))), precision)
        # Without the barrier the one entry that is read would be the only one computed.
        return jnp.tanh(jax.lax.optimization_barrier(out)[0, 0, 0])

    return jax.lax.fori_loop(0, num, one, jnp.zeros((), a.dtype))


def copy_probe() -> Probe:
    """Writes an array that no cache holds as another; the amount is bytes read plus written."""
    x = jnp.zeros(_COPY_BYTES // 4)
    copy = jax.jit(lambda x: x + 1)
    return Probe(lambda: copy(x), 2.0 * x.size * x.dtype.itemsize)


def square_product() -> Product:
    """A product that shows the device at its best."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    return Product(1, size, size, size, "float32")
