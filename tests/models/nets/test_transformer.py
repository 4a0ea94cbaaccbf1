import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.models.nets.transformer import Transformer

L, D, A, H = 5, 3, 2, 8
NET = Transformer(width=H, num_layers=2, num_heads=2, max_len=L, code_dim=4)
LATENT = jax.random.normal(jax.random.key(1), (L, D))
ACTION = jax.random.normal(jax.random.key(2), (L, A))
VALID = jnp.ones(L, bool)
PARAMS = NET.init(jax.random.key(0), LATENT, ACTION, VALID)
full = jax.jit(lambda *args: NET.apply(PARAMS, *args))
code_grad = jax.jit(jax.grad(lambda *args: NET.apply(PARAMS, *args)[1].sum()))
one_step = jax.jit(lambda *args: NET.apply(PARAMS, *args, method="step"))


def test_causality_by_gradient():
    jacobian = jax.jit(jax.jacobian(lambda x: full(x, ACTION, VALID)))(LATENT)
    feats, code = (np.abs(j) for j in jacobian)
    influence = feats.sum(axis=(1, 3))  # [to, from]
    assert (np.triu(influence, 1) == 0).all()
    assert (influence[np.tril_indices(L)] > 0).all()
    assert (code.sum(axis=(0, 2)) > 0).all()


def test_nobody_sees_the_task_token():
    def feats(token):
        params = {"params": PARAMS["params"] | {"task_token": token}}
        return NET.apply(params, LATENT, ACTION, VALID)[0]

    token = PARAMS["params"]["task_token"]
    np.testing.assert_array_equal(feats(token), feats(token + 1))


@pytest.mark.parametrize("length", [1, 3])
def test_padding_equals_a_shorter_window(length):
    valid = jnp.arange(L) < length
    feats, code = full(LATENT, ACTION, valid)
    expected = full(LATENT[:length], ACTION[:length], VALID[:length])
    np.testing.assert_allclose(feats[:length], expected[0], atol=1e-5)
    np.testing.assert_allclose(code, expected[1], atol=1e-5)
    grad = code_grad(LATENT, ACTION, valid)
    assert (np.abs(grad).sum(-1) > 0).tolist() == valid.tolist()


def test_order_of_steps_matters():
    backwards = full(LATENT[::-1], ACTION[::-1], VALID)[1]
    assert np.abs(backwards - full(LATENT, ACTION, VALID)[1]).max() > 1e-3


def test_task_code_alone_equals_the_full_pass():
    code = NET.apply(PARAMS, LATENT, ACTION, VALID, method="task_code")
    np.testing.assert_allclose(code, full(LATENT, ACTION, VALID)[1], atol=1e-5)


@pytest.mark.parametrize("num", [1, 3, 5])
def test_cached_steps_equal_the_full_pass(num):
    expected, _ = full(LATENT, ACTION, VALID)
    feats, cache = NET.apply(PARAMS, LATENT[:num], ACTION[:num], method="prefill")
    rows = [*feats]
    for t in range(num, L):
        row, cache = one_step(cache, LATENT[t], ACTION[t])
        rows.append(row)
    np.testing.assert_allclose(jnp.stack(rows), expected, atol=1e-5)
    assert cache.length == L
    assert cache.key.shape == (2, L, H)


def test_attention_factors_of_one_change_nothing_and_of_zero_cut():
    ones = jnp.ones((2, 2, L + 1, L + 1))
    plain = full(LATENT, ACTION, VALID)
    for actual, expected in zip(full(LATENT, ACTION, VALID, ones), plain):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    cut = full(LATENT, ACTION, VALID, 0 * ones)
    other = full(LATENT + 1, ACTION, VALID, 0 * ones)
    np.testing.assert_array_equal(cut[1], other[1])  # the task token sees itself only


def test_leading_axes_are_independent():
    latent = jnp.stack([LATENT, LATENT + 1])[None]
    action, valid = (jnp.broadcast_to(x, (1, 2, *x.shape)) for x in (ACTION, VALID))
    feats, code = full(latent, action, valid)
    np.testing.assert_allclose(feats[0, 0], full(LATENT, ACTION, VALID)[0], atol=1e-5)
    np.testing.assert_allclose(code[0, 1], full(LATENT + 1, ACTION, VALID)[1], atol=1e-5)
