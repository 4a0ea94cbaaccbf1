"""BRAC as an agent: the batches it asks for, the weight it remembers, who refuses it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from metastar.agents import brac
from metastar.data.rows import Transitions
from metastar.errors import UserError
from metastar.losses.brac import policy_loss
from metastar.models.acting import one_batch
from metastar.types import RowSpec

KEY = jax.random.key(0)


def make(**values):
    fields = {name: field.value for name, field in brac.DEFAULTS.items()}
    fields |= {"gamma": 0.9, "hidden": (4,), **values}
    hp = {name: fields[name] for name, field in brac.DEFAULTS.items() if field.swept}
    return brac.make(FrozenConfigDict(fields), RowSpec(2, 4)), hp


def rows(*shape):
    obs, action = jnp.ones((*shape, 3)), jnp.full((*shape, 2), 0.5)
    flag = jnp.ones(shape, bool)
    return Transitions(obs, action, jnp.ones(shape), obs, ~flag, flag)


@pytest.mark.parametrize("steps, shape", [(1, (6,)), (3, (3, 6))])
def test_an_update_takes_the_batches_that_the_agent_asks_for(steps, shape):
    agent, hp = make(dual_steps=steps)
    assert agent.num_batches == steps
    learner = agent.init(KEY, 3)
    new, metrics = jax.eval_shape(lambda x: agent.update(x, rows(*shape), KEY, hp, 0), learner)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, learner)
    assert all(x.shape == () for x in jax.tree.leaves(metrics))


def test_a_method_that_draws_one_batch_refuses_three():
    with pytest.raises(UserError, match=r"'brac' learns from 3 batches .* method 'oracle' draws"):
        one_batch(make()[0], "brac", "oracle")
    assert one_batch(make(dual_steps=1)[0], "brac", "oracle").num_batches == 1


@pytest.mark.parametrize("memory", ["clipped", "free"])
def test_the_weight_stays_in_its_range_or_its_use_alone(memory):
    """From 3, the most, it would go up for an aim far below the divergence, and below 0 for 4.

    With T = log 2 everywhere the divergence is log log 2 + 1 - log 2, -0.06, for every policy.
    """
    agent, hp = make(dual_steps=1, alpha=3.0, alpha_memory=memory)
    learner = agent.init(KEY, 3)
    dual = jax.tree.map(jnp.zeros_like, learner.params["dual"])
    learner = learner._replace(params={**learner.params, "dual": dual})
    hp |= {"alpha_max": 3.0, "alpha_lr": 1.0, "dual_lr": 0.0}

    @jax.jit
    def update(aim):
        new, metrics = agent.update(learner, rows(6), KEY, {**hp, "target_divergence": aim}, 0)
        return new.extra["alpha"], metrics["alpha"]

    for aim, clipped in ((-6.0, 3.0), (4.0, 0.0)):
        moved, used = update(aim)
        free = 3 + np.log(np.log(2)) + 1 - np.log(2) - aim
        np.testing.assert_allclose(moved, clipped if memory == "clipped" else free, atol=1e-5)
        assert used == 3.0


def test_rewards_times_k_are_one_kth_of_every_weight():
    """Why the weights are in units of the data's rewards: the policy's loss is the same times k."""

    def loss(k, weights):
        q_fn = lambda action: k * jnp.stack([action.sum(-1), action[:, 0]])  # noqa: E731
        policy_fn = lambda params, obs_code: (params * obs_code, -obs_code)  # noqa: E731
        obs, noise = jnp.ones((5, 2)), jax.random.normal(KEY, (5, 2))
        distance_fn = lambda action: (action**2).sum(-1)  # noqa: E731
        return policy_loss(0.5, obs, noise, q_fn, distance_fn, *weights, policy_fn)[0]

    weights = np.array([0.3, 0.02, 1e-4])  # of divergence, entropy and decay
    np.testing.assert_allclose(loss(5.0, 5 * weights), 5 * loss(1.0, weights), rtol=1e-5)
    assert abs(loss(5.0, weights) - 5 * loss(1.0, weights)) > 0.1


def test_it_acts_between_the_bounds_and_greedily_without_noise():
    agent, _ = make()
    params = agent.export(agent.init(KEY, 3))
    noise = jnp.full(2, 50.0)
    np.testing.assert_allclose(agent.act(params, jnp.ones(3), noise, False), [1, 1], rtol=1e-6)
    assert np.abs(agent.act(params, jnp.ones(3), noise, True)).max() < 0.1
    assert agent.value(params, jnp.ones(3), jnp.ones(2)).shape == ()
