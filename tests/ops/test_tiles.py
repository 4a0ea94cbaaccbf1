import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.ops.tiles import mean_over_rows

NUM, WIDTH = 10, 7
ROWS = {"x": np.linspace(-1, 1, NUM * 3).reshape(NUM, 3), "sign": np.arange(NUM) % 2 == 0}
PARAMS = np.linspace(0.5, -2, 3 * WIDTH).reshape(3, WIDTH)


def fn(params, row):
    hidden = jnp.tanh(row["x"] @ params)
    return jnp.where(row["sign"], 1, -2) * (hidden**2).sum()


def value_and_gradient(tile, fn=fn, rows=ROWS):
    mean = jax.jit(lambda params: mean_over_rows(fn, params, rows, tile))
    value, gradient = jax.value_and_grad(mean)(PARAMS)
    np.testing.assert_allclose(mean(PARAMS), value, rtol=1e-12)
    return value, gradient


def check_against_all_at_once(tile, **changes):
    for a, b in zip(value_and_gradient(tile, **changes), value_and_gradient(0)):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_all_at_once_is_the_mean(x64):
    by_loop = [fn(PARAMS, jax.tree.map(lambda x, i=i: x[i], ROWS)) for i in range(NUM)]
    np.testing.assert_allclose(value_and_gradient(0)[0], np.mean(by_loop), rtol=1e-12)


@pytest.mark.parametrize("tile", [1, 5, 4, 9, 10, 99])  # 4 and 9 leave a remainder
def test_tiles_change_nothing_but_rounding(x64, tile):
    check_against_all_at_once(tile)


def test_losing_the_remainder_is_found(x64):
    with pytest.raises(AssertionError):
        check_against_all_at_once(4, rows=jax.tree.map(lambda x: x[:8], ROWS))


def test_each_of_several_parameters_gets_the_gradient_of_its_own_mean(x64):
    def means(params):
        return jax.vmap(lambda p: mean_over_rows(fn, p, ROWS, 4))(params)

    both = jnp.stack([PARAMS, 2 * PARAMS])
    gradient = jax.grad(lambda params: (jnp.array([3.0, 5.0]) * means(params)).sum())(both)
    for i, weight in enumerate((3, 5)):
        alone = jax.grad(lambda params: mean_over_rows(fn, params, ROWS))(both[i])
        np.testing.assert_allclose(gradient[i], weight * alone, rtol=1e-12)


@pytest.mark.parametrize(("tile", "stored"), [(0, True), (5, False)])
def test_tiles_never_hold_what_is_between_for_all_rows(tile, stored):
    jaxpr = jax.make_jaxpr(jax.grad(lambda p: mean_over_rows(fn, p, ROWS, tile)))(PARAMS)
    assert (f"[{NUM},{WIDTH}]" in str(jaxpr)) == stored
