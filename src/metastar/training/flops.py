"""Counts the matrix products of a program."""

import math
from collections import Counter
from typing import Any, NamedTuple


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


def products(jaxpr: Any) -> Counter:
    """Counts the matrix products that a jaxpr runs: {Product: times}.

    The body of a scan counts as often as it runs, that of a `shard_map` once for each device, of a
    `cond` the branch with more operations, the body of a `while` loop once, since its number of
    rounds is not known.
    """
    found = Counter()
    for eqn in jaxpr.eqns:
        inner = [products(sub) for sub in _sub_jaxprs(eqn.params)]
        if eqn.primitive.name == "dot_general":
            found[_product(eqn)] += 1
        elif eqn.primitive.name == "cond":
            found += max(inner, key=flops)
        else:
            for part in inner:
                found += scaled(part, _times(eqn))
    return found


def by_scope(jaxpr: Any, scope: str = "") -> Counter:
    """Splits `matmul_flops` by the outermost `jax.named_scope`: {name: FLOP}, "" outside of any.

    Methods give the terms of their update such scopes. `scope` is that of the jaxpr itself.
    """
    found = Counter()
    for eqn in jaxpr.eqns:
        named = str(eqn.source_info.name_stack).partition("/")[0]
        own = scope or (named if named.isidentifier() else "")
        inner = [by_scope(sub, own) for sub in _sub_jaxprs(eqn.params)]
        if eqn.primitive.name == "dot_general":
            found[own] += _product(eqn).flops
        elif eqn.primitive.name == "cond":
            found += max(inner, key=lambda split: sum(split.values()))
        else:
            for part in inner:
                found += scaled(part, _times(eqn))
    return found


def flops(found: Counter) -> float:
    """Floating-point operations of the products that were counted."""
    return float(sum(product.flops * times for product, times in found.items()))


def scaled(found: Counter, times: float) -> Counter:
    """What was counted of a program, if it is run `times` times."""
    return Counter({key: num * times for key, num in found.items()})


def matmul_flops(jaxpr: Any) -> float:
    """Counts 2 b m k n for every matrix product of a jaxpr; loops and branches as `products`."""
    return flops(products(jaxpr))


def _times(eqn: Any) -> int:
    """How often an equation runs the programs in it."""
    if eqn.primitive.name == "shard_map":
        # JAX 0.10 calls them `newly_manual_axes`.
        axes = next(x for name, x in eqn.params.items() if name.endswith("manual_axes"))
        return math.prod(eqn.params["mesh"].shape[axis] for axis in axes)
    return eqn.params.get("length", 1)


def _product(eqn: Any) -> Product:
    contracted, batched = eqn.params["dimension_numbers"]
    left, right = (invar.aval for invar in eqn.invars)
    depth = math.prod(left.shape[axis] for axis in contracted[0])
    batch = math.prod(left.shape[axis] for axis in batched[0])
    m, n = (
        math.prod(size for axis, size in enumerate(x.shape) if axis not in {*summed, *shared})
        for x, summed, shared in zip((left, right), contracted, batched, strict=True)
    )
    precision = eqn.params["precision"]
    precision = precision[0] if isinstance(precision, tuple) else precision
    name = getattr(precision, "name", "None")
    return Product(batch, m, depth, n, str(left.dtype), name)


def _sub_jaxprs(params: dict) -> list:
    values = [
        v for value in params.values() for v in (value if isinstance(value, tuple) else [value])
    ]
    return [getattr(v, "jaxpr", v) for v in values if hasattr(v, "jaxpr") or hasattr(v, "eqns")]
