from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.losses import critic as cql
from metastar.losses.critic import SampledActions
from metastar.models.nets.actor_critic import Critic, init_twin_critic
from model_helpers import scramble

KEY = jax.random.key(0)
CRITIC = Critic((8, 8))
S, J, GRID = 7, 6, 500


@pytest.fixture
def samples(x64):
    keys = jax.random.split(KEY, 4)
    return SampledActions(
        obs_code=jax.random.normal(keys[0], (S, 3)),
        action=jax.random.uniform(keys[1], (S, J, 2)),
        log_density=jax.random.normal(keys[2], (S, J)),
        pick=jax.random.uniform(keys[3], (S, 2)),
    )


@pytest.fixture
def params(x64):
    return scramble(init_twin_critic(KEY, CRITIC, 3, 2), KEY)


def twin(params, samples, tile=0):
    """Value and gradient of a sum that weighs the two critics differently."""

    def total(params):
        return (jnp.array([1.0, 3.0]) * cql.twin_mean(params, samples, CRITIC, tile)).sum()

    return jax.jit(jax.value_and_grad(total))(params)


def assert_close(a, b, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), a, b)


@pytest.mark.parametrize("gradient", ["exact", "sampled"])
@pytest.mark.parametrize("penalty", ["cql", "combo"])
def test_tiles_change_nothing_but_rounding(params, samples, gradient, penalty):
    if gradient == "exact":
        samples = samples._replace(pick=None)
    if penalty == "combo":
        samples = samples._replace(log_density=None)
    plain = twin(params, samples)
    assert plain[0].dtype == jnp.float64
    assert_close(twin(params, samples, 3), plain, rtol=1e-12, atol=1e-12)


def test_the_sampled_value_is_exact_and_its_gradient_is_not(params, samples):
    value, gradient = twin(params, samples)
    exact, exact_gradient = twin(params, samples._replace(pick=None))
    np.testing.assert_allclose(value, exact, rtol=1e-12)
    with pytest.raises(AssertionError):
        assert_close(gradient, exact_gradient, rtol=0.01, atol=0.01)


def check_expectation(params, samples, drawn):
    """Mean gradient over a grid of `pick` against the exact one, at one state of one critic."""
    one = jax.tree.map(lambda x: x[0], (params, samples._replace(pick=None)))
    gradient = jax.grad(lambda p, sample: cql.logsumexp_of_samples(p, sample, CRITIC))
    grid = (jnp.arange(GRID) + 0.5) / GRID
    drawn = jax.tree.map(lambda x: x[0], drawn)
    picks = jnp.stack([grid, grid[::-1]], 1)  # the expectation only sees each one's own law
    each = jax.jit(jax.vmap(lambda pick: gradient(one[0], drawn._replace(pick=pick))))(picks)
    # A grid is off by at most one cell at each of J borders.
    bound = J / GRID * max(jnp.abs(x).max() for x in jax.tree.leaves(each))
    assert_close(jax.tree.map(lambda x: x.mean(0), each), gradient(*one), rtol=0, atol=bound)


def test_the_sampled_gradient_is_unbiased(params, samples):
    check_expectation(params, samples, samples)


def test_drawing_uniformly_is_found(params, samples):
    with pytest.raises(AssertionError):
        check_expectation(params, samples, samples._replace(log_density=None))


def test_leaving_the_densities_out_of_the_weights_is_found(params, samples):
    flat = samples._replace(log_density=jnp.zeros((S, J)))
    with pytest.raises(AssertionError):
        check_expectation(params, samples, flat)
