import jax
import jax.numpy as jnp
import numpy as np

from metastar.ops.conservative import importance_logsumexp


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
