"""What every file of `models/encoders/` must hold, found by its name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from metastar import registry
from metastar.config import Field
from metastar.types import Codes
from model_helpers import SPEC, random_view, scrambled

KEY = jax.random.key(0)
TASKS, LENGTH = 3, 6
VIEW = random_view(KEY, TASKS, LENGTH)
NAMES = registry.names("encoder")


@pytest.fixture(params=NAMES, scope="module")
def made(request):
    """The encoder, its settings, parameters, and jitted (params, view) -> (codes, gradient)."""
    module = registry.find("encoder", request.param)
    cfg = FrozenConfigDict({name: field.value for name, field in module.DEFAULTS.items()})
    encoder = module.make(cfg, SPEC)
    params = scrambled(encoder.init, KEY)

    @jax.jit
    def run(params, view):
        noise = encoder.draw_noise(jax.random.key(1), view.valid.shape)

        def total(params):
            codes = encoder.encode(params, view, noise)
            return jnp.sum(codes.task**2), codes

        grad, codes = jax.grad(total, has_aux=True)(params)
        return codes, grad

    return encoder, module, cfg, params, run


def test_settings_say_what_a_method_asks_of_every_encoder(made):
    _, module, cfg, _, _ = made
    assert all(isinstance(field, Field) and field.doc for field in module.DEFAULTS.values())
    assert cfg.context_len >= 1 and cfg.context in ("bag", "window")


def test_finite_codes_of_the_right_shape_deterministic_and_as_without_jit(made):
    encoder, _, cfg, params, run = made
    codes, grad = run(params, VIEW)
    assert isinstance(codes, Codes) and codes.task.shape == (TASKS, cfg.code_dim)
    assert codes.each is None or codes.each.shape == (TASKS, LENGTH, cfg.code_dim)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((codes, grad)))
    np.testing.assert_array_equal(run(params, VIEW)[0].task, codes.task)
    noise = encoder.draw_noise(jax.random.key(1), VIEW.valid.shape)
    plain = encoder.encode(params, VIEW, noise)
    np.testing.assert_allclose(plain.task, codes.task, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_every_parameter(made):
    *_, params, run = made
    _, grad = run(params, VIEW)
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(grad))


def test_tasks_are_told_apart_and_do_not_mix(made):
    """Another context of the last task moves its code and no other."""
    *_, params, run = made
    other = random_view(jax.random.key(2), TASKS, LENGTH)
    last = jax.tree.map(lambda x, y: x.at[-1].set(y[-1]), VIEW, other)
    moved = np.abs(run(params, last)[0].task - run(params, VIEW)[0].task).max(-1)
    assert moved[-1] > 1e-3 and (moved[:-1] < 1e-6).all()


def test_more_leading_axes_and_none_at_all(made):
    encoder, *_, params, run = made
    codes, _ = run(params, VIEW)
    noise = encoder.draw_noise(jax.random.key(1), VIEW.valid.shape)
    encode = jax.jit(encoder.encode)

    def at(tree, index):
        return jax.tree.map(lambda x: x[index], tree)

    one = encode(params, at(VIEW, 0), at(noise, 0))
    np.testing.assert_allclose(one.task, codes.task[0], rtol=1e-4, atol=1e-5)
    nested = encode(params, at(VIEW, None), at(noise, None))
    np.testing.assert_allclose(nested.task[0], codes.task, rtol=1e-4, atol=1e-5)


def padded(filling):
    """The last two steps of every context are padding."""
    valid = VIEW.valid.at[:, -2:].set(False)

    def fill(x):
        mask = jnp.reshape(valid, (*valid.shape, *(1,) * (x.ndim - 2)))
        return jnp.where(mask, x, jnp.asarray(filling, x.dtype))

    names = ("obs", "action", "reward", "prev_reward", "next_obs", "done", "first")
    return VIEW._replace(valid=valid, **{name: fill(getattr(VIEW, name)) for name in names})


def check_padding(task_code):
    np.testing.assert_allclose(task_code(padded(0)), task_code(padded(3)), rtol=1e-6, atol=1e-7)


def test_padding_counts_nowhere(made):
    *_, params, run = made
    check_padding(lambda view: run(params, view)[0].task)
    grads = [run(params, padded(filling))[1] for filling in (0, 3)]
    for a, b in zip(*map(jax.tree.leaves, grads)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_an_encoder_that_reads_padding_is_found(made):
    *_, params, run = made
    with pytest.raises(AssertionError):
        check_padding(lambda view: run(params, view._replace(valid=VIEW.valid))[0].task)
