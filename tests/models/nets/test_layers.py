import jax
import jax.numpy as jnp
import numpy as np

from metastar.models.nets.actor_critic import (
    Actor,
    Critic,
    greedy_action,
    init_actor,
    init_twin_critic,
    sample_action,
    twin_q,
)
from metastar.models.nets.heads import Decoder, GaussianHead, Termination
from metastar.models.nets.mlp import MLP

KEY = jax.random.key(0)


def assert_uniform(x, bound):
    assert np.abs(x).max() <= bound
    assert np.abs(x).max() > 0.8 * bound
    assert abs(np.std(x) / (bound / np.sqrt(3)) - 1) < 0.2


def test_mlp_starts_as_rlkit_does():
    params = MLP((40, 90), 5).init(KEY, jnp.zeros(10))["params"]
    assert_uniform(params["hidden_0"]["kernel"], 40**-0.5)
    assert_uniform(params["hidden_1"]["kernel"], 90**-0.5)
    assert_uniform(params["output"]["kernel"], 3e-3)
    assert np.abs(params["output"]["bias"]).max() <= 3e-3
    np.testing.assert_allclose(params["hidden_0"]["bias"], 0.1)


def test_heads_start_as_documented():
    head = GaussianHead(50).init(KEY, jnp.zeros(25))["params"]
    assert_uniform(head["mean"]["kernel"], 0.2)
    assert_uniform(head["logvar"]["bias"], 0.2)
    decoder = Decoder((60, 60), 4).init(KEY, jnp.zeros(9))["params"]
    assert abs(np.std(decoder["hidden_0"]["kernel"]) * 2 * 3 - 1) < 0.1
    np.testing.assert_array_equal(decoder["output"]["bias"], 0)
    np.testing.assert_allclose(decoder["max_logvar"], 0.5)
    np.testing.assert_allclose(decoder["min_logvar"], -10)


def test_latent_log_variance_is_clipped():
    head = GaussianHead(3)
    params = head.init(KEY, jnp.zeros((2, 2)))
    x = 1e4 * jax.random.normal(KEY, (20, 2))
    assert set(np.unique(head.apply(params, x)[1])) <= {-10.0, 2.0}


def test_decoder_log_variance_stays_between_its_bounds():
    decoder = Decoder((8,), 2)
    params = decoder.init(KEY, jnp.zeros(3))
    _, logvar = decoder.apply(params, 1e4 * jax.random.normal(KEY, (50, 3)))
    assert logvar.max() <= 0.5 + 1e-3  # the lower bound lifts the upper end by a trace
    assert logvar.min() >= -10


def test_termination_gives_one_logit_per_step():
    net = Termination(8)
    x = jax.random.normal(KEY, (3, 5, 8))
    assert net.apply(net.init(KEY, x), x).shape == (3, 5)


def test_critic_of_many_actions_equals_one_by_one():
    critic = Critic((8, 6))
    params = init_twin_critic(KEY, critic, 4, 2)
    obs_code = jax.random.normal(KEY, (5, 4))
    action = jax.random.normal(KEY, (5, 3, 2))
    q = twin_q(critic, params, obs_code, action)
    assert q.shape == (2, 5, 3)
    for k in range(3):
        np.testing.assert_allclose(
            q[..., k], twin_q(critic, params, obs_code, action[:, k]), atol=1e-6
        )


def test_split_first_layer_equals_one_on_the_joined_input():
    critic = Critic((8,))
    params = critic.init(KEY, jnp.zeros(4), jnp.zeros(2))["params"]
    obs_code, action = jax.random.normal(KEY, (4,)), jax.random.normal(KEY, (2,))
    kernel = jnp.concatenate([params["hidden_0"]["kernel"], params["hidden_0_action"]["kernel"]])
    hidden = jax.nn.relu(jnp.concatenate([obs_code, action]) @ kernel + params["hidden_0"]["bias"])
    expected = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    actual = critic.apply({"params": params}, obs_code, action)
    np.testing.assert_allclose(actual, expected[0], rtol=1e-5)


def test_twin_critics_start_differently():
    params = init_twin_critic(KEY, Critic((8,)), 4, 2)
    assert (params["output"]["kernel"][0] != params["output"]["kernel"][1]).all()


def test_actor_heads_start_small_and_log_std_is_clipped():
    actor = Actor((30,), 20)
    params = init_actor(KEY, actor, 4)
    assert_uniform(params["mean"]["kernel"], 1e-3)
    assert_uniform(params["log_std"]["kernel"], 1e-3)
    wild = params | {"log_std": jax.tree.map(lambda x: 1e6 * x, params["log_std"])}
    log_std = actor.apply({"params": wild}, jnp.ones((7, 4)))[1]
    assert set(np.unique(log_std)) <= {-20.0, 2.0}


def test_actions_of_many_noises_equal_one_by_one():
    actor = Actor((8,), 2)
    params = init_actor(KEY, actor, 4)
    obs_code, noise = jax.random.normal(KEY, (5, 4)), jax.random.normal(KEY, (5, 3, 2))
    action, log_prob = sample_action(actor, params, obs_code, noise)
    assert log_prob.shape == (5, 3)
    one = sample_action(actor, params, obs_code, noise[:, 1])
    np.testing.assert_allclose(action[:, 1], one[0], rtol=1e-5)
    np.testing.assert_allclose(log_prob[:, 1], one[1], rtol=1e-5)
    still = sample_action(actor, params, obs_code, 0 * noise[:, 1])[0]
    np.testing.assert_allclose(greedy_action(actor, params, obs_code), still)
