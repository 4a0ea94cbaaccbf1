"""The precision of matrix products."""

import functools

import jax

from metastar.types import Method


def bind(method: Method, precision: str) -> Method:
    """Returns a method whose matrix products, backward passes included, have the given precision.

    "float32" computes them in full, also where a device would round by default. "tensorfloat32"
    rounds operands to 10 bits of mantissa on GPUs and to three bfloat16 parts on TPUs; CPUs ignore
    it. "bfloat16" rounds the operands of dense layers to 7 bits and adds up in float32, on every
    device (`nets.product`); the few other products, such as attention's, run in the fastest
    precision of the device. Everything that is not a product stays in float32: parameters,
    optimiser state, losses and targets.

    Args:
        method: what a file of `methods/` makes.
        precision: "float32", "tensorfloat32" or "bfloat16".
    """

    def bound(leaf):
        if not callable(leaf):
            return leaf

        @functools.wraps(leaf)
        def call(*args, **kwargs):
            with jax.default_matmul_precision(precision):
                return leaf(*args, **kwargs)

        return call

    return jax.tree.map(bound, method)  # a record of functions is a pytree of them
