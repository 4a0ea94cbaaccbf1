import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.ops.cql import draw_by_weight, importance_logsumexp


def test_by_hand():
    q, log_density = jnp.log(jnp.array([[2.0, 6.0]])), jnp.log(jnp.array([[0.5, 2.0]]))
    np.testing.assert_allclose(importance_logsumexp(q, log_density), [np.log(4 + 3)], rtol=1e-6)


def test_estimates_the_integral_whatever_the_proposal():
    # Q(a) = 3 a on [-1, 1]: int exp Q = (e^3 - e^-3) / 3
    exact = np.log((np.exp(3) - np.exp(-3)) / 3)
    num = 20_000
    key_uniform, key_skew = jax.random.split(jax.random.key(0))
    uniform = jax.random.uniform(key_uniform, (num,), minval=-1, maxval=1)
    flat = importance_logsumexp(3 * uniform, jnp.full(num, -jnp.log(2.0)))
    # density (1 + a) / 2, by inversion
    skew = 2 * jnp.sqrt(jax.random.uniform(key_skew, (num,))) - 1
    skewed = importance_logsumexp(3 * skew, jnp.log((1 + skew) / 2))
    np.testing.assert_allclose(flat - np.log(num), exact, atol=0.05)
    np.testing.assert_allclose(skewed - np.log(num), exact, atol=0.05)


def test_gradient_is_a_softmax():
    q = jnp.array([0.0, 1.0, 5.0])
    grad = jax.grad(lambda q: importance_logsumexp(q, jnp.zeros(3)))(q)
    np.testing.assert_allclose(grad, jax.nn.softmax(q), rtol=1e-6)


def frequencies(weights, num_draws):
    """How often each index is drawn over a grid of uniforms."""
    grid = (jnp.arange(1000) + 0.5) / 1000
    draw = jax.vmap(lambda u: draw_by_weight(weights, jnp.full(num_draws, u)))(grid)
    return np.bincount(draw.ravel(), minlength=len(weights)) / draw.size


def test_indices_are_drawn_as_often_as_they_weigh():
    weights = jnp.array([0.13, 0.0, 0.47, 0.4])
    for num_draws in (1, 2, 3):
        np.testing.assert_allclose(frequencies(weights, num_draws), weights, atol=2e-3)
    with pytest.raises(AssertionError):  # order of the weights matters
        np.testing.assert_allclose(frequencies(weights[::-1], 2), weights, atol=2e-3)


def test_weights_that_do_not_quite_add_up_give_an_index_all_the_same():
    below_one = jnp.nextafter(jnp.float32(1), jnp.float32(0))
    assert draw_by_weight(jnp.array([0.3, 0.3, 0.3]), jnp.array([below_one])).tolist() == [2]


def test_two_draws_differ_where_no_weight_exceeds_a_half():
    draws = draw_by_weight(jnp.full(4, 0.25), jnp.array([0.99, 0.0]))
    assert draws.tolist() == [1, 2]
