"""Matrix products are counted as a hand would count them, and rates are what they should be."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.tools.bench import roofline
from metastar.training import flops
from metastar.training.flops import Product


def count(f, *args):
    return flops.products(jax.make_jaxpr(f)(*args).jaxpr)


def product(batch, m, k, n, times=1, dtype="float32"):
    return {Product(batch, m, k, n, dtype): times}


def test_products_are_counted_with_their_loops_and_the_dearer_branch():
    def f(x):
        def body(carry, _):
            return jnp.tanh(carry @ x), None

        y = jax.lax.scan(body, x, None, length=10)[0]
        return jax.lax.cond(y.sum() > 0, lambda a: a @ a @ a, lambda a: a, y)

    found = count(f, jnp.ones((8, 8)))
    assert found == product(1, 8, 8, 8, 12)
    assert flops.flops(found) == 12 * 2 * 8**3


def test_products_are_split_by_the_outermost_scope_whatever_surrounds_them():
    """Three steps with two products each way back, a function called inside, and a branch."""

    def f(w, x):
        with jax.named_scope("model"):

            def loss(w):
                with jax.named_scope("inner"):
                    return jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=3)[0].sum()

            moved = jax.grad(loss)(w)
        with jax.named_scope("agent"):
            act = jax.jit(lambda a: a @ w)(x)
            act = jax.lax.cond(act.sum() > 0, lambda a: a @ w, lambda a: a, act)
        return moved, act, jax.vmap(lambda row: row @ w)(x)

    jaxpr = jax.make_jaxpr(jax.jit(f))(jnp.ones((4, 4)), jnp.ones((4, 4))).jaxpr
    one = 2 * 4**3
    assert flops.by_scope(jaxpr) == {"model": 9 * one, "agent": 2 * one, "": one}
    assert sum(flops.by_scope(jaxpr).values()) == flops.matmul_flops(jaxpr)


def test_products_without_entries_or_terms_are_counted():
    """MJX multiplies by an empty Jacobian where a robot has no contact of some kind."""
    assert count(lambda a, b: a @ b, jnp.ones((4, 0)), jnp.ones((0, 3))) == product(1, 4, 0, 3)
    assert count(lambda a, b: a @ b, jnp.ones((0, 4)), jnp.ones((4, 3))) == product(1, 0, 4, 3)
    none = count(jax.vmap(lambda a, b: a @ b), jnp.ones((0, 2, 5)), jnp.ones((0, 5, 3)))
    assert none == product(0, 2, 5, 3)
    assert flops.flops(none) == 0


def test_two_functions_called_inside_are_both_counted():
    f, g = jax.jit(lambda a: a @ a), jax.jit(lambda a: a @ a[:, :1])
    assert count(lambda a: (f(a), g(a)), jnp.ones((4, 4))) == (
        product(1, 4, 4, 4) | product(1, 4, 4, 1)
    )


@pytest.mark.parametrize(
    ("equation", "left", "right", "expected"),
    [
        ("ij,jk->ik", (4, 5), (5, 6), (1, 4, 5, 6)),
        ("bij,bjk->bik", (3, 4, 5), (3, 5, 6), (3, 4, 5, 6)),
        ("abij,jk->abik", (2, 3, 4, 5), (5, 6), (1, 24, 5, 6)),
        ("ri,rk->ik", (7, 4), (7, 6), (1, 4, 7, 6)),  # the gradient of a weight
    ],
)
def test_a_product_has_the_shape_that_a_hand_would_give_it(equation, left, right, expected):
    found = count(lambda a, b: jnp.einsum(equation, a, b), jnp.ones(left), jnp.ones(right))
    (one,) = found
    swapped = (expected[0], expected[3], expected[2], expected[1])  # XLA may swap the operands
    assert one[:4] in (expected, swapped) and found[one] == 1


def test_type_and_precision_tell_products_apart():
    def f(a):
        b = a.astype(jnp.bfloat16)
        return a @ a, b @ b, jnp.matmul(a, a, precision="highest")

    assert set(count(f, jnp.ones((4, 4)))) == {
        Product(1, 4, 4, 4, "float32"),
        Product(1, 4, 4, 4, "bfloat16"),
        Product(1, 4, 4, 4, "float32", "HIGHEST"),
    }


def test_the_heaviest_make_up_the_share_and_no_more():
    small, large = Product(1, 1, 1, 1, "float32"), Product(1, 10, 10, 10, "float32")
    found = Counter({small: 200, large: 1})  # 400 and 2,000 FLOP
    assert roofline.heaviest(found, share=0.8) == [large]
    assert roofline.heaviest(found, share=0.9) == [large, small]
    assert roofline.heaviest(found, share=0.9, most=1) == [large]
    assert roofline.heaviest(Counter()) == []


def test_the_matrix_rate_weighs_shapes_by_the_time_they_take_alone():
    slow, fast = Product(1, 1, 50, 1, "float32"), Product(1, 10, 50, 1, "float32")  # 100, 1,000
    found, seconds = Counter({slow: 2, fast: 1}), {slow: 1.0, fast: 2.0}
    assert roofline.matrix_rate(found, seconds) == (2 * 100 + 1000) / (2 * 1.0 + 2.0)
    assert roofline.matrix_rate(found, {fast: 2.0}) == 500.0
    assert np.isnan(roofline.matrix_rate(found, {}))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_probe_runs_the_product_as_often_as_it_says(monkeypatch, dtype):
    monkeypatch.setattr(roofline, "rounds_for", lambda call, seconds, most: 3)
    probe = roofline.product_probe(Product(2, 4, 5, 6, dtype, "HIGHEST"))
    assert probe.amount == 3 * 2 * 2 * 4 * 5 * 6
    last = probe.call()
    assert last.dtype == dtype and jnp.isfinite(last) and last != 0


def test_every_round_of_a_probe_is_the_whole_product():
    a, b = jnp.ones((1, 96, 48)), jnp.ones((1, 48, 80))
    program = roofline._again_and_again.lower(a, b, 3, None).compile()
    (loop_body,) = (line for line in program.as_text().splitlines() if " dot(" in line)
    assert "f32[96,80]" in loop_body or "f32[1,96,80]" in loop_body


def test_copying_counts_reading_and_writing(monkeypatch):
    monkeypatch.setattr(roofline, "_COPY_BYTES", 4096)
    probe = roofline.copy_probe()
    assert probe.amount == 2 * 4096 and probe.call().nbytes == 4096
