import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from metastar.ops import gaussian


def test_kl_by_hand():
    # N(1, 1) against N(0, 4): 1/2 [log 4 + (1 + 1) / 4 - 1]
    value = gaussian.kl(jnp.ones(1), jnp.zeros(1), jnp.zeros(1), jnp.log(4.0) * jnp.ones(1))
    np.testing.assert_allclose(value, 0.5 * (np.log(4) + 0.5 - 1), rtol=1e-6)


def test_kl_of_equal_distributions_is_zero_and_else_positive():
    mean, logvar = jax.random.normal(jax.random.key(0), (2, 5, 3))
    np.testing.assert_array_equal(gaussian.kl(mean, logvar, mean, logvar), 0)
    assert (gaussian.kl(mean, logvar, mean + 0.1, logvar) > 0).all()
    forward = gaussian.kl(mean, logvar, mean, logvar + 1)
    assert not np.allclose(forward, gaussian.kl(mean, logvar + 1, mean, logvar))


def test_kl_is_the_mean_log_ratio():
    rng = np.random.default_rng(0)
    p, q = (0.3, 0.5), (-0.2, 0.9)
    x = rng.normal(*p, 400_000)
    expected = np.mean(stats.norm.logpdf(x, *p) - stats.norm.logpdf(x, *q))
    args = (jnp.array([v]) for v in (p[0], 2 * np.log(p[1]), q[0], 2 * np.log(q[1])))
    np.testing.assert_allclose(gaussian.kl(*args), expected, atol=5e-3)


def test_nll_is_twice_the_density_without_constant(x64):
    x, mean, logvar = np.random.default_rng(0).normal(size=(3, 7))
    density = stats.norm.logpdf(x, mean, np.exp(logvar / 2))
    np.testing.assert_allclose(
        gaussian.nll(x, mean, logvar), -2 * density - np.log(2 * np.pi), rtol=1e-12
    )


def test_sample_by_hand():
    np.testing.assert_allclose(gaussian.sample(1.0, jnp.log(9.0), -2.0), -5, rtol=1e-6)


def test_tanh_normal_density_integrates_to_one(x64):
    mean, log_std = jnp.full((4001, 1), 0.4), jnp.full((4001, 1), -0.6)
    noise = jnp.linspace(-8, 8, 4001)[:, None]
    action, log_prob = gaussian.tanh_normal_sample(mean, log_std, noise)
    np.testing.assert_allclose(np.trapezoid(np.exp(log_prob), action[:, 0]), 1, atol=1e-4)


def test_tanh_normal_against_scipy(x64):
    rng = np.random.default_rng(1)
    mean, log_std, noise = rng.normal(size=(3, 6, 2)) * 0.5
    action, log_prob = gaussian.tanh_normal_sample(mean, log_std, noise)
    u = mean + np.exp(log_std) * noise
    expected = stats.norm.logpdf(u, mean, np.exp(log_std)) - np.log(1 - np.tanh(u) ** 2 + 1e-6)
    np.testing.assert_allclose(action, np.tanh(u), rtol=1e-12)
    np.testing.assert_allclose(log_prob, expected.sum(-1), rtol=1e-12)


def test_saturated_action_has_finite_density_and_gradient():
    def log_prob(mean):
        return gaussian.tanh_normal_sample(mean, jnp.zeros(1), jnp.zeros(1))[1]

    assert np.isfinite(log_prob(jnp.array([50.0])))
    assert np.isfinite(jax.grad(log_prob)(jnp.array([50.0]))).all()


def test_density_of_a_drawn_action_is_that_of_the_draw(x64):
    mean, log_std, noise = np.random.default_rng(2).normal(size=(3, 6, 2)) * 0.5
    action, log_prob = gaussian.tanh_normal_sample(mean, log_std, noise)
    again = gaussian.tanh_normal_log_prob(mean, log_std, action)
    np.testing.assert_allclose(again, log_prob, rtol=1e-10)


def test_density_of_an_action_by_hand():
    # tanh(log 2) = (2 - 1/2) / (2 + 1/2) = 0.6: u is one std above the mean
    value = gaussian.tanh_normal_log_prob(
        jnp.zeros(1), jnp.log(jnp.log(2.0))[None], jnp.array([0.6])
    )
    expected = -0.5 - np.log(np.log(2)) - 0.5 * np.log(2 * np.pi) - np.log(1 - 0.36 + 1e-6)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_action_on_the_bound_has_finite_density_and_gradient():
    def log_prob(mean, log_std):
        return gaussian.tanh_normal_log_prob(mean, log_std, jnp.array([1.0, -1.0]))

    mean = jnp.array([7.0, -7.0])
    assert np.isfinite(log_prob(mean, jnp.zeros(2)))
    for grad in jax.grad(log_prob, argnums=(0, 1))(mean, jnp.zeros(2)):
        assert np.isfinite(grad).all()
    assert log_prob(mean, jnp.zeros(2)) > log_prob(-mean, jnp.zeros(2))
