"""The cores that may take the Transformer's place have its interface."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.models.nets.cores import CORES

L, D, A, H = 5, 3, 2, 8
LATENT = jax.random.normal(jax.random.key(1), (2, L, D))
ACTION = jax.random.normal(jax.random.key(2), (2, L, A))
VALID = jnp.ones((2, L), bool)


@pytest.fixture(params=["gru", "mlp"], scope="module")
def core(request):
    net = CORES[request.param](H, 2, 2, L, 4)
    params = net.init(jax.random.key(0), LATENT, ACTION, VALID)
    return request.param, net, params


def test_causality_and_memory(core):
    name, net, params = core

    def feats_and_code(latent):
        return net.apply(params, latent[None], ACTION[:1], VALID[:1])

    feats, code = jax.jit(jax.jacobian(feats_and_code))(LATENT[0])
    influence = np.abs(feats[0]).sum((1, 3)) > 0  # [to, from]
    expected = np.eye(L, dtype=bool) if name == "mlp" else np.tril(np.ones((L, L), bool))
    np.testing.assert_array_equal(influence, expected)
    assert (np.abs(code[0]).sum((0, 2)) > 0).all()


def test_padding_equals_a_shorter_window(core):
    _, net, params = core
    feats, code = net.apply(params, LATENT, ACTION, VALID & (jnp.arange(L)[None] < 3))
    expected = net.apply(params, LATENT[:, :3], ACTION[:, :3], VALID[:, :3])
    np.testing.assert_allclose(feats[:, :3], expected[0], atol=1e-6)
    np.testing.assert_allclose(code, expected[1], atol=1e-6)
    assert np.isfinite(net.apply(params, LATENT, ACTION, ~VALID)[1]).all()  # an empty context


def test_task_code_alone_and_cached_steps_equal_the_full_pass(core):
    _, net, params = core
    feats, code = net.apply(params, LATENT, ACTION, VALID)
    alone = net.apply(params, LATENT, ACTION, VALID, method="task_code")
    np.testing.assert_allclose(alone, code, atol=1e-6)
    actual, cache = net.apply(params, LATENT[0, :2], ACTION[0, :2], method="prefill")
    np.testing.assert_allclose(actual, feats[0, :2], atol=1e-6)
    for t in range(2, L):
        actual, cache = net.apply(params, cache, LATENT[0, t], ACTION[0, t], method="step")
        np.testing.assert_allclose(actual, feats[0, t], atol=1e-6)
