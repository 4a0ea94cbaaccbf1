import jax.numpy as jnp
import numpy as np

from metastar.ops.td import polyak, soft_target


def test_soft_target_by_hand():
    target = soft_target(
        reward=jnp.array([1.0, 1.0]),
        done=jnp.array([False, True]),
        gamma=0.9,
        next_q=jnp.array([10.0, 10.0]),
        alpha=0.5,
        next_log_prob=jnp.array([-2.0, -2.0]),
    )
    np.testing.assert_allclose(target, [1 + 0.9 * (10 + 1), 1], rtol=1e-6)


def test_polyak_by_hand():
    moved = polyak({"a": jnp.array([1.0])}, {"a": jnp.array([3.0])}, 0.25)
    np.testing.assert_allclose(moved["a"], [2.5])
