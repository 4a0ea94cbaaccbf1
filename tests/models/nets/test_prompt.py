"""A token that is given: all steps see it, no order is lost, cached steps equal the full pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.models.nets.cores import CORES

L, D, A, H = 4, 3, 2, 8
LATENT = jax.random.normal(jax.random.key(1), (L, D))
ACTION = jax.random.normal(jax.random.key(2), (L, A))
VALID = jnp.ones(L, bool)
PROMPT = jax.random.normal(jax.random.key(3), (H,))


@pytest.fixture(params=["transformer", "gru"], scope="module")
def core(request):
    """The compiled `apply` and parameters."""
    net = CORES[request.param](H, 2, 2, L, 4)
    apply = jax.jit(net.apply, static_argnames="method")
    return apply, jax.jit(net.init)(jax.random.key(0), LATENT, ACTION, VALID)


def test_every_step_sees_the_prompt_and_no_later_step(core):
    apply, params = core

    def feats(latent, prompt):
        return apply(params, latent, ACTION, VALID, prompt, method="prompted")

    of_latent, of_prompt = jax.jit(jax.jacobian(feats, (0, 1)))(LATENT, PROMPT)
    influence = np.abs(of_latent).sum((1, 3)) > 0  # [to, from]
    np.testing.assert_array_equal(influence, np.tril(np.ones((L, L), bool)))
    assert (np.abs(of_prompt).sum((1, 2)) > 0).all()


def test_cached_steps_after_a_prompt_equal_the_full_pass(core):
    apply, params = core
    expected = apply(params, LATENT, ACTION, VALID, PROMPT, method="prompted")
    for num in (1, L - 1):
        feats, cache = apply(params, LATENT[:num], ACTION[:num], PROMPT, method="prefill")
        rows = [*feats]
        for t in range(num, L):
            row, cache = apply(params, cache, LATENT[t], ACTION[t], method="step")
            rows.append(row)
        np.testing.assert_allclose(jnp.stack(rows), expected, atol=1e-5)
    without, _ = apply(params, LATENT, ACTION, VALID)
    assert np.abs(without - expected).max() > 1e-3


def test_padding_and_leading_axes(core):
    apply, params = core
    batch = [jnp.stack([x, x]) for x in (LATENT, ACTION, VALID & (jnp.arange(L) < 2), PROMPT)]
    feats = apply(params, *batch, method="prompted")
    short = apply(params, LATENT[:2], ACTION[:2], VALID[:2], PROMPT, method="prompted")
    np.testing.assert_allclose(feats[1, :2], short, atol=1e-5)
