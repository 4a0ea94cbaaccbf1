"""What every file of `losses/task/` must hold, found by its name."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar import registry
from model_helpers import SPEC, as_codes, make_loss, random_batch, tiny_cfg

CFG = tiny_cfg()
KEY = jax.random.key(0)
TWO_BEHAVIORS = SPEC._replace(num_policies=2, num_stages=2, num_behaviors=4)
VIEWS = ("context", "positive")


def batch_of_two_behaviors(task_id=(0, 1, 2)):
    batch = random_batch(KEY, task_id, VIEWS)
    positive = batch.views["positive"]
    policy = jnp.arange(len(task_id)) % 2
    views = {**batch.views, "positive": positive._replace(policy=policy)}
    return batch._replace(views=views)


BATCH = batch_of_two_behaviors()
CODES = as_codes(**dict(zip(VIEWS, jax.random.normal(KEY, (2, 3, 3)))))


@pytest.fixture(params=registry.names("task loss"), scope="module")
def made(request):
    """The loss and what it is called with; its opponent's parameters are among `params`."""
    module = registry.find("task loss", request.param)
    task_loss = make_loss(module, CFG, TWO_BEHAVIORS)
    params, noise = jax.jit(task_loss.init)(KEY), task_loss.draw_noise(KEY, BATCH)
    if task_loss.opponent:
        params = params | jax.jit(task_loss.opponent.init)(KEY)
    hp = {name: field.value for name, field in module.DEFAULTS.items() if field.swept}
    loss = partial(task_loss.loss, hp=hp)
    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    return task_loss._replace(loss=loss), params, noise, run


def test_finite_scalars_deterministic_and_as_without_jit(made):
    task_loss, params, noise, run = made
    (value, metrics), grads = run(params, CODES, BATCH, noise)
    assert all(x.shape == () for x in (value, *metrics.values()))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, metrics, grads)))
    np.testing.assert_array_equal(run(params, CODES, BATCH, noise)[0][0], value)
    with jax.disable_jit():
        plain, _ = task_loss.loss(params, CODES, BATCH, noise)
    np.testing.assert_allclose(plain, value, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_the_codes_and_every_network_of_its_own(made):
    task_loss, params, noise, run = made
    scrambled = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), params)
    _, (own, codes) = run(scrambled, CODES, BATCH, noise)
    trained = {name: own[name] for name in jax.eval_shape(task_loss.init, KEY)}
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(trained))
    for name in task_loss.views:
        assert np.abs(codes[name].task).max() > 0, name


def test_padding_counts_nowhere(made):
    task_loss, params, _, run = made
    valid = {n: v._replace(valid=v.valid.at[:, -2:].set(False)) for n, v in BATCH.views.items()}

    def padded(filling):
        views = {
            name: view._replace(
                obs=jnp.where(view.valid[..., None], view.obs, filling),
                action=jnp.where(view.valid[..., None], view.action, filling),
                reward=jnp.where(view.valid, view.reward, filling),
            )
            for name, view in valid.items()
        }
        batch = BATCH._replace(views=views)
        return run(params, CODES, batch, task_loss.draw_noise(KEY, batch))[0][0]

    np.testing.assert_allclose(padded(0.0), padded(3.0), rtol=1e-6)


def test_codes_that_descend_pay_less(made):
    """A twin whose gradient reaches the codes with the wrong sign must fail, whatever the loss."""
    _, params, noise, run = made
    scrambled = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), params)

    def gain(sign):
        (before, _), (_, grads) = run(scrambled, CODES, BATCH, noise)
        size = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))
        moved = jax.tree.map(lambda c, g: c - sign * 1e-2 * g / size, CODES, grads)
        return before - run(scrambled, moved, BATCH, noise)[0][0]

    assert gain(1) > 0
    with pytest.raises(AssertionError):
        assert gain(-1) > 0
