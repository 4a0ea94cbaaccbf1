import jax.numpy as jnp
import numpy as np
import pytest

from metastar.ops.uncertainty import largest_disagreement, largest_spread

# Three members, two steps, predictions in the plane.
MEAN = jnp.array([[[0.0, 0], [1, 1]], [[3, 4], [1, 1]], [[-3, -4], [1, 2]]])
STD = jnp.array([[[3.0, 4], [1, 0.1]], [[1, 1], [0.6, 0.8]], [[2, 0.5], [0.1, 0.1]]])


def check_spread(spread):
    np.testing.assert_allclose(spread(2 * jnp.log(STD)), [5, np.sqrt(1.01)], rtol=1e-5)


def check_disagreement(disagreement):
    np.testing.assert_allclose(disagreement(MEAN), [10, 1], rtol=1e-5)


def test_by_hand():
    check_spread(largest_spread)
    check_disagreement(largest_disagreement)
    np.testing.assert_array_equal(largest_disagreement(MEAN[:1]), [0, 0])


def test_variances_for_deviations_and_distances_to_the_mean_are_found():
    with pytest.raises(AssertionError):
        check_spread(lambda logvar: largest_spread(2 * logvar))
    with pytest.raises(AssertionError):
        check_disagreement(
            lambda mean: jnp.linalg.norm(mean - mean.mean(0, keepdims=True), axis=-1).max(0)
        )
