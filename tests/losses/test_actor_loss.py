import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.losses import actor as actor_loss
from metastar.models.nets.actor_critic import Actor, init_actor, sample_action
from model_helpers import scramble

KEY = jax.random.key(0)
ACTOR = Actor((8,), 2)
PARAMS = scramble(init_actor(KEY, ACTOR, 3), KEY)
OBS_CODE = jax.random.normal(KEY, (6, 3))
NOISE = jax.random.normal(jax.random.key(1), (6, 2))


def q_fn(obs_code, action):
    return jnp.stack([action[:, 0], -action[:, 0]])


def check(q_fn, alpha=0.2):
    total, metrics = actor_loss.loss(PARAMS, OBS_CODE, NOISE, alpha, ACTOR, q_fn)
    action, log_prob = sample_action(ACTOR, PARAMS, OBS_CODE, NOISE)
    expected = np.mean(0.2 * log_prob + np.abs(action[:, 0]))  # min(a, -a) = -|a|
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], -log_prob.mean(), rtol=1e-6)


def test_by_hand():
    check(q_fn)


def test_the_wrong_critic_or_weight_is_found():
    with pytest.raises(AssertionError):
        check(lambda s, a: q_fn(s, a)[:1])
    with pytest.raises(AssertionError):
        check(q_fn, alpha=0.0)


def test_descent_raises_the_value():
    value = lambda s, a: jnp.stack([-((a - 0.5) ** 2).sum(-1)] * 2)  # noqa: E731
    loss = jax.jit(lambda p: actor_loss.loss(p, OBS_CODE, NOISE, 0.0, ACTOR, value)[0])
    moved = jax.tree.map(lambda p, g: p - 0.05 * g, PARAMS, jax.grad(loss)(PARAMS))
    assert loss(moved) < loss(PARAMS)


def test_cloning_pulls_towards_the_actions_of_real_rows_only():
    data = jax.random.uniform(jax.random.key(2), (6, 2))
    real = jnp.array([True, False, True, False, True, True])
    alpha = 0.2
    plain, _ = actor_loss.loss(PARAMS, OBS_CODE, NOISE, alpha, ACTOR, q_fn)
    total, metrics = actor_loss.loss(PARAMS, OBS_CODE, NOISE, alpha, ACTOR, q_fn, data, real, 3.0)
    mean, _ = ACTOR.apply({"params": PARAMS}, OBS_CODE)
    error = np.mean([((np.tanh(mean[m]) - data[m]) ** 2).mean() for m in (0, 2, 4, 5)])
    np.testing.assert_allclose(metrics["cloning_error"], error, rtol=1e-5)
    np.testing.assert_allclose(total - plain, 3 * error, rtol=1e-4)
    none, _ = actor_loss.loss(PARAMS, OBS_CODE, NOISE, alpha, ACTOR, q_fn, data, ~real & real, 3.0)
    np.testing.assert_allclose(none, plain)
