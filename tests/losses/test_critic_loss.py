import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.losses import critic as critic_loss
from metastar.losses.critic import SampledActions
from metastar.models.nets.actor_critic import Critic, init_twin_critic, twin_q
from model_helpers import AGENT_HP, scramble

BETA = AGENT_HP["beta"]

KEY = jax.random.key(0)
CRITIC = Critic((8, 8))
PARAMS = scramble(init_twin_critic(KEY, CRITIC, 3, 2), KEY)
M, K = 5, 4
KEYS = jax.random.split(KEY, 6)
BATCH = critic_loss.CriticBatch(
    obs_code=jax.random.normal(KEYS[0], (M, 3)),
    action=jax.random.uniform(KEYS[1], (M, 2)),
    target=jax.random.normal(KEYS[2], (M,)),
    real=jnp.array([True, True, False, True, False]),
    samples=SampledActions(
        obs_code=jax.random.normal(KEYS[3], (M, 3)),
        action=jax.random.uniform(KEYS[4], (M, K, 2)),
        log_density=jax.random.normal(KEYS[5], (M, K)),
    ),
)
SAMPLES = BATCH.samples


def policy_fn(obs_code, noise):
    """A made-up policy: the action tells the state it was drawn at."""
    mean = obs_code[..., :1] if noise.ndim == obs_code.ndim else obs_code[..., None, :1]
    return mean + noise, noise.sum(-1)


def check_loss(batch):
    """Against plain loops over states, actions and critics."""
    total, metrics = jax.jit(lambda p: critic_loss.loss(p, batch, BETA, CRITIC))(PARAMS)
    q = np.asarray(twin_q(CRITIC, PARAMS, BATCH.obs_code, BATCH.action))
    expected = 0
    for i in range(2):
        td = np.mean([(q[i, m] - BATCH.target[m]) ** 2 for m in range(M)])
        one = jax.tree.map(lambda x, i=i: x[i], PARAMS)
        soft = []
        for m in range(M):
            value = [
                CRITIC.apply({"params": one}, SAMPLES.obs_code[m], SAMPLES.action[m, k])
                for k in range(K)
            ]
            soft.append(np.log(np.sum(np.exp(np.array(value) - SAMPLES.log_density[m]))))
        pushed_up = np.mean([q[i, m] for m in (0, 1, 3)])
        expected += td + BETA * (np.mean(soft) - pushed_up)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["critic_loss"], expected / 2, rtol=1e-5)


def test_against_loops():
    check_loss(BATCH)


def test_pushing_up_imagined_rows_is_found():
    with pytest.raises(AssertionError):
        check_loss(BATCH._replace(real=jnp.ones(M, bool)))


def test_leaving_out_the_densities_is_found():
    with pytest.raises(AssertionError):
        check_loss(BATCH._replace(samples=SAMPLES._replace(log_density=jnp.zeros((M, K)))))


def test_the_penalty_of_combo_is_the_mean_value_of_the_policys_actions():
    noise = critic_loss.draw_noise(KEY, M, 2, M, K)
    samples = critic_loss.policy_samples(SAMPLES.obs_code, noise, policy_fn)
    mean = jnp.broadcast_to(SAMPLES.obs_code[:, None, :1], (M, K, 2))
    np.testing.assert_allclose(samples.action, mean + noise.policy_obs, rtol=1e-6)
    batch = BATCH._replace(samples=samples)
    gap = critic_loss.terms(PARAMS, batch, BETA, CRITIC).conservative
    q = twin_q(CRITIC, PARAMS, BATCH.obs_code, BATCH.action)
    by_loop = [
        np.mean(twin_q(CRITIC, PARAMS, SAMPLES.obs_code, samples.action[:, k])[i])
        for i in range(2)
        for k in range(K)
    ]
    pushed_down = np.reshape(by_loop, (2, K)).mean(1)
    pushed_up = np.asarray(q)[:, [0, 1, 3]].mean(1)
    np.testing.assert_allclose(gap, BETA * (pushed_down - pushed_up), rtol=1e-4, atol=1e-6)
    weighted = SAMPLES._replace(action=samples.action)
    other = critic_loss.terms(PARAMS, BATCH._replace(samples=weighted), BETA, CRITIC)
    assert not np.allclose(gap, other.conservative)


def test_each_critic_gets_the_gradient_of_its_own_loss():
    def one(i):
        return lambda p: sum(
            getattr(critic_loss.terms(p, BATCH, BETA, CRITIC), name)[i]
            for name in ("td", "conservative")
        )

    whole = jax.jit(jax.grad(lambda p: critic_loss.loss(p, BATCH, BETA, CRITIC)[0]))(PARAMS)
    first = jax.jit(jax.grad(one(0)))(PARAMS)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(first)):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-4, atol=1e-6)
        assert not b[1].any()


def test_without_samples_or_weight_it_is_the_squared_error():
    plain = BATCH._replace(samples=None)
    total, metrics = critic_loss.loss(PARAMS, plain, BETA, CRITIC)
    q = twin_q(CRITIC, PARAMS, BATCH.obs_code, BATCH.action)
    np.testing.assert_allclose(
        total, jnp.sum(jnp.mean((q - BATCH.target[None]) ** 2, 1)), rtol=1e-5
    )
    assert metrics["conservative"] == 0
    unweighted, _ = critic_loss.loss(PARAMS, BATCH, 0.0, CRITIC)
    np.testing.assert_allclose(unweighted, total, rtol=1e-6)


def test_batch_without_real_rows_is_finite():
    total, _ = critic_loss.loss(PARAMS, BATCH._replace(real=jnp.zeros(M, bool)), BETA, CRITIC)
    assert np.isfinite(total)


def test_penalty_lowers_values_of_actions_outside_the_data():
    grads = jax.grad(lambda p: critic_loss.terms(p, BATCH, BETA, CRITIC).conservative.sum())(PARAMS)
    moved = jax.tree.map(lambda p, g: p - 1e-3 * g, PARAMS, grads)
    gap = lambda p: float(  # noqa: E731
        critic_loss.terms(p, BATCH, BETA, CRITIC).conservative.sum()
    )
    assert gap(moved) < gap(PARAMS)


def test_target_by_hand():
    noise = critic_loss.draw_noise(KEY, 2, 1)._replace(next_action=jnp.array([[0.5], [0.5]]))
    target = critic_loss.target(
        reward=jnp.array([1.0, 1.0]),
        done=jnp.array([False, True]),
        next_obs_code=jnp.array([[2.0], [2.0]]),
        noise=noise,
        gamma=AGENT_HP["gamma"],
        alpha=AGENT_HP["alpha"],
        policy_fn=policy_fn,
        target_q_fn=lambda s, a: jnp.stack([s[:, 0] * a[:, 0], s[:, 0] + a[:, 0]]),
    )
    # a' = 2.5, log pi = .5, min(5, 4.5) = 4.5: 1 + .9 (4.5 - .2 * .5)
    np.testing.assert_allclose(target, [1 + 0.9 * 4.4, 1], rtol=1e-6)


def test_samples_come_from_three_sources_in_order():
    noise = critic_loss.draw_noise(KEY, 3, 2, 3, 4)
    obs, next_obs = jnp.zeros((3, 5)), jnp.full((3, 5), 100.0)
    _, action, log_density, pick = critic_loss.conservative_samples(obs, next_obs, noise, policy_fn)
    assert pick is None
    np.testing.assert_allclose(action[:, :4], noise.policy_obs)
    np.testing.assert_allclose(action[:, 4:8], 100 + noise.policy_next, rtol=1e-6)
    np.testing.assert_array_equal(action[:, 8:], noise.uniform)
    np.testing.assert_allclose(log_density[:, 4:8], noise.policy_next.sum(-1), rtol=1e-6)
    np.testing.assert_allclose(log_density[:, 8:], -2 * np.log(2), rtol=1e-6)
    assert np.abs(noise.uniform).max() <= 1


def test_noise_without_states_draws_none():
    noise = critic_loss.draw_noise(KEY, 3, 2)
    assert noise.uniform is noise.policy_obs is noise.policy_next is None
