"""What a device can do at most: the matrix products of a program, and how fast it does each alone.

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

from metastar.timing import rounds_for
from metastar.types import Array

_PROBE_SECONDS = 5e-2  # of one probe at least, so that starting it, cold, does not count
_COPY_BYTES = 2**28  # read; beyond any cache
_MAX_ROUNDS = 10_000


class Product(NamedTuple):
    """A batch of matrix products [m, k] x [k, n]."""

    batch: int
    m: int
    k: int
    n: int
    dtype: str
    precision: str = "None"  # as XLA was asked for it: of both operands alike

    @property
    def flops(self) -> float:
        """A multiplication and an addition per entry and term: 2 b m k n."""
        return 2.0 * self.batch * self.m * self.k * self.n

    def __str__(self) -> str:
        shape = f"({self.m}, {self.k}) x ({self.k}, {self.n})"
        return f"{self.batch} x {shape} {self.dtype}"


class Probe(NamedTuple):
    """Something to time that tells a rate of the device."""

    call: Callable[[], Any]
    amount: float  # floating-point operations, or bytes, of one call


def products(jaxpr: Any) -> Counter:
    """Counts the matrix products that a jaxpr runs: {Product: times}.

    A scan counts its body as often as it runs, a `cond` its dearer branch, a `while` loop, whose
    number of rounds is not known, once.
    """
    found = Counter()
    for eqn in jaxpr.eqns:
        inner = [products(sub) for sub in _sub_jaxprs(eqn.params)]
        if eqn.primitive.name == "dot_general":
            found[_product(eqn)] += 1
        elif eqn.primitive.name == "cond":
            found += max(inner, key=flops)
        else:
            length = eqn.params.get("length", 1) if inner else 1
            for part in inner:
                found += scaled(part, length)
    return found


def flops(found: Counter) -> float:
    """Floating-point operations of the products that were counted."""
    return float(sum(product.flops * times for product, times in found.items()))


def scaled(found: Counter, times: float) -> Counter:
    """The products of a program that is run `times` times."""
    return Counter({product: num * times for product, num in found.items()})


def matmul_flops(jaxpr: Any) -> float:
    """Counts 2 b m k n for every matrix product of a jaxpr; loops and branches as `products`."""
    return flops(products(jaxpr))


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


def _product(eqn: Any) -> Product:
    (contracted, _), (batched, _) = eqn.params["dimension_numbers"]
    left, right = (invar.aval for invar in eqn.invars)
    depth = math.prod(left.shape[axis] for axis in contracted)
    batch = math.prod(left.shape[axis] for axis in batched)
    precision = eqn.params["precision"]
    precision = precision[0] if isinstance(precision, tuple) else precision
    name = getattr(precision, "name", "None")
    m, n = (math.prod(x.shape) // (batch * depth) for x in (left, right))
    return Product(batch, m, depth, n, str(left.dtype), name)


def _sub_jaxprs(params: dict) -> list:
    values = [
        v for value in params.values() for v in (value if isinstance(value, tuple) else [value])
    ]
    return [getattr(v, "jaxpr", v) for v in values if hasattr(v, "jaxpr") or hasattr(v, "eqns")]
