import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.losses import iql

Q = np.array([-1.0, 0.0, 0.5, 4.0], np.float32)


def check_expectile(error_fn):
    """u = 2 weighs .9, u = -3 weighs .1: (.9 * 4 + .1 * 9) / 2 = 2.25."""
    np.testing.assert_allclose(error_fn(jnp.array([2.0, -3.0]), 0.9).mean(), 2.25, rtol=1e-6)


def test_expectile_by_hand():
    check_expectile(iql.expectile_error)


def test_a_weight_on_the_wrong_side_is_found():
    with pytest.raises(AssertionError):
        check_expectile(lambda error, expectile: iql.expectile_error(-error, expectile))


def fitted(expectile):
    """Where the value of one state ends, whose actions have the values `Q`."""

    def loss(v):
        v_fn = lambda v, obs_code: jnp.broadcast_to(v, obs_code.shape[:1])  # noqa: E731
        return iql.value_loss(v, jnp.zeros((len(Q), 1)), Q, expectile, v_fn)[0]

    move = jax.jit(lambda v: v - 0.3 * jax.grad(loss)(v))
    v = jnp.zeros(())
    for _ in range(200):
        v = move(v)
    return float(v)


def test_the_value_is_the_expectile_between_the_mean_and_the_best_action_of_the_data():
    """At it `expectile sum (q - v)+ = (1 - expectile) sum (v - q)+`; 0.5 gives the mean."""
    np.testing.assert_allclose(fitted(0.5), Q.mean(), atol=1e-5)
    pessimistic, optimistic = fitted(0.1), fitted(0.9)
    for v, expectile in ((pessimistic, 0.1), (optimistic, 0.9)):
        above, below = np.maximum(Q - v, 0).sum(), np.maximum(v - Q, 0).sum()
        np.testing.assert_allclose(expectile * above, (1 - expectile) * below, atol=1e-4)
    assert Q.min() < pessimistic < Q.mean() < optimistic < Q.max()


def test_target_by_hand_and_nothing_follows_a_terminal():
    done = jnp.array([False, True])
    target = iql.critic_target(jnp.array([1.0, 1.0]), done, 0.9, jnp.array([2.0, 2.0]))
    np.testing.assert_allclose(target, [2.8, 1.0], rtol=1e-6)


def check_critic(loss_fn):
    """Values 1 and 3 of one row, target 2.5: (1.5^2 + .5^2) / 2 = 1.25."""
    q_fn = lambda params, obs_code, action: params[:, None] * action[:, 0][None]  # noqa: E731
    args = jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.array([2.5])
    loss, grad = jax.value_and_grad(lambda p: loss_fn(p, *args, q_fn)[0])(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(loss, 1.25)
    np.testing.assert_allclose(grad, [-1.5, 0.5])


def test_critics_by_hand_each_towards_the_target():
    check_critic(iql.critic_loss)


def test_critics_that_share_one_error_are_found():
    def shared(params, obs_code, action, target, q_fn):
        return jnp.mean((q_fn(params, obs_code, action).min(0) - target) ** 2), {}

    with pytest.raises(AssertionError):
        check_critic(shared)


def check_actor(weight_fn):
    """Advantages log 2 / 3, 9 weigh 2 and the clip, 5; log pi = -(m - a)^2: gradient by hand."""
    weight = weight_fn(jnp.array([np.log(2) / 3, 9.0]), 3.0, 5.0)
    log_prob = lambda m, obs_code, action: -((m - action[:, 0]) ** 2)  # noqa: E731
    args = jnp.zeros((2, 1)), jnp.array([[1.0], [-1.0]]), weight
    loss, grad = jax.value_and_grad(lambda m: iql.actor_loss(m, *args, log_prob)[0])(0.0)
    np.testing.assert_allclose([loss, grad], [(2 + 5) / 2, (2 * -2 + 5 * 2) / 2], rtol=1e-6)


def test_the_actor_imitates_by_weight():
    check_actor(iql.advantage_weight)


def test_a_missing_clip_and_a_temperature_that_divides_are_found():
    with pytest.raises(AssertionError):
        check_actor(lambda advantage, beta, clip: iql.advantage_weight(advantage, beta, 1e9))
    with pytest.raises(AssertionError):
        check_actor(lambda advantage, beta, clip: iql.advantage_weight(advantage, 1 / beta, clip))


def test_an_advantage_that_overflows_has_the_largest_weight():
    assert iql.advantage_weight(jnp.array(1e6), 3.0, 100.0) == 100
