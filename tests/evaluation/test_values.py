"""Overestimation: what critics expect at the first step against discounted returns, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.agents import conservative as agents
from metastar.data.normalize import whitener
from metastar.evaluation import episodes as play
from metastar.models.acting import code_value
from metastar.models.nets.actor_critic import Critic, twin_q
from metastar.ops.td import discounted_return
from metastar.types import Method, RowSpec, Trajectory
from model_helpers import SPEC, tiny_cfg


def steps(reward, done, valid):
    """One task, one window, one episode."""
    reward, done, valid = (jnp.array(x)[None, None, None] for x in (reward, done, valid))
    obs = jnp.arange(reward.shape[-1] * 2.0).reshape(1, 1, 1, -1, 2)
    return Trajectory(obs, obs + 0.5, reward, obs + 1, done.astype(bool), valid.astype(bool))


def check_returns(discounted):
    for done, valid, expected in (
        ([0, 0, 0], [1, 1, 1], 1 + 2 / 2 + 4 / 4),
        ([0, 0, 1], [1, 1, 1], 1 + 2 / 2 + 4 / 4),  # the terminal's own reward counts
        ([0, 1, 0], [1, 1, 1], 1 + 2 / 2),  # a terminal that the simulator runs on after
        ([0, 1, 0], [1, 1, 0], 1 + 2 / 2),
        ([1, 1, 1], [1, 1, 1], 1),
    ):
        played = play._digest(0, steps([1.0, 2, 4], done, valid))
        np.testing.assert_allclose(discounted(played.reward, 0.5), [[[expected]]])
        np.testing.assert_array_equal(played.action[0, 0, 0], [0.5, 1.5])


def test_discounted_returns_by_hand():
    check_returns(discounted_return)


def test_a_discount_of_the_first_reward_is_found():
    with pytest.raises(AssertionError):
        check_returns(lambda reward, gamma: gamma * discounted_return(reward, gamma))


def test_each_window_is_valued_under_its_own_code():
    def value(params, obs, action, code):
        return params * (obs.sum() + action.sum() * code[0])

    method = Method(None, (), None, None, None, None, value=value)
    played = play._digest(0, steps([1.0, 2, 4], [0, 0, 0], [1, 1, 1]))
    played = jax.tree.map(lambda x: jnp.concatenate([x, x], 1), played)  # two windows
    found = play.values(method)(3.0, 0.5, played, jnp.array([[[1.0], [-2.0]]]))
    np.testing.assert_allclose(found["value"], [[3 * (1 + 2), 3 * (1 - 4)]])
    np.testing.assert_allclose(found["monte_carlo"], [[3, 3]])


def test_the_agents_value_is_the_lower_of_its_critics_on_whitened_states():
    cfg = tiny_cfg().agent.conservative
    cfg.hidden = (8,)
    spec = SPEC._replace(obs_mean=(1.0,) * 3, obs_std=(2.0,) * 3)
    agent = agents.make(cfg, RowSpec(spec.action_dim, 8))
    params = agent.init(jax.random.key(0), 6).params
    value = code_value(agent, whitener(True, spec))
    obs, action, code = jnp.array([3.0, 1, -1]), jnp.array([0.5, -0.5]), jnp.ones(3)
    white = jnp.array([1.0, 0, -1, 1, 1, 1])
    both = twin_q(Critic((8,)), params["critic"], white, action)
    assert both[0] != both[1]
    found = value({"agent": params}, obs, action, code)
    np.testing.assert_allclose(found, both.min(), rtol=1e-6)
