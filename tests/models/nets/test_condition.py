import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.models.nets.condition import KINDS, Condition

KEY = jax.random.key(0)
X, CODE = jax.random.normal(KEY, (2, 5, 4)), jax.random.normal(KEY, (2, 3))


def apply(kind, x, code, **params):
    return Condition(kind).apply({"params": params}, x, code)


def linear(kernel, bias):
    return {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}


def test_each_kind_by_hand():
    x, code = jnp.array([2.0, 3.0]), jnp.array([10.0])
    shift = linear([[1.0, -1.0]], [0.5, 0.0])  # of 10: (10.5, -10)
    scale = linear([[0.1, 0.0]], [0.0, 1.0])  # of 10: (1, 1)
    np.testing.assert_allclose(apply("none", x, None), x)
    np.testing.assert_allclose(apply("concat", x, code), [2, 3, 10])
    np.testing.assert_allclose(apply("add", x, code, shift=shift), [12.5, -7])
    np.testing.assert_allclose(
        apply("film", x, code, shift=shift, scale=scale), [2 * 2 + 10.5, 3 * 2 - 10]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_code_without_time_counts_for_every_step(kind):
    net = Condition(kind)
    params = net.init(KEY, X, CODE)
    out = net.apply(params, X, CODE)
    assert out.shape[:-1] == X.shape[:-1]
    one = net.apply(params, X[1, 3], CODE[1])
    np.testing.assert_allclose(out[1, 3], one, atol=1e-6)
    grad = jax.grad(lambda code: jnp.sum(net.apply(params, X, code) ** 2))(CODE)
    assert (np.abs(grad).max() > 0) == (kind not in ("none", "token"))
