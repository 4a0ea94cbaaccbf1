"""TD3+BC: its actor's loss by hand, and what moves when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from metastar.agents import td3_bc
from metastar.data.rows import Transitions
from metastar.losses import td3
from metastar.models.nets.actor_critic import Actor, init_actor
from metastar.types import RowSpec

KEY = jax.random.key(0)
HP = {"gamma": 0.9, "tau": 0.1, "actor_lr": 1e-2, "critic_lr": 1e-2, "value_weight": 2.5}
HP |= {"smoothing_noise": 0.2, "smoothing_clip": 0.5}


def check_the_loss(weight):
    """Values [-1, 3] of two rows, whose actor gives 0: the value counts in units of 2."""
    actor = Actor((4,), 2)
    params = jax.tree.map(jnp.zeros_like, init_actor(KEY, actor, 3))

    def q_fn(obs_code, action):
        return jnp.stack([jnp.array([-1.0, 3.0]) + action.sum(-1), jnp.full(2, 9.0)])

    def loss(params):
        action = jnp.array([[0.5, 0.0], [0.0, -1.0]])
        return td3.cloning_actor_loss(params, jnp.ones((2, 3)), action, q_fn, weight, actor)

    grad, found = jax.grad(loss, has_aux=True)(params)
    np.testing.assert_allclose(found["cloning_error"], 1.25 / 4, rtol=1e-6)
    np.testing.assert_allclose(found["actor_loss"], 1.25 / 4 - 2.5 / 2, rtol=1e-6)
    # d/da of -2.5 Q / 2 is -1.25 a row, of the cloning -2 * 0.5 / 4 and 2 * 1 / 4.
    np.testing.assert_allclose(grad["mean"]["bias"], [-1.25 - 0.25, -1.25 + 0.5], rtol=1e-6)


def test_the_actors_loss_by_hand():
    check_the_loss(2.5)
    with pytest.raises(AssertionError):
        check_the_loss(2.0)


def test_actor_and_targets_move_at_every_second_step_only():
    fields = {name: field.value for name, field in td3_bc.DEFAULTS.items()}
    agent = td3_bc.make(FrozenConfigDict(fields | {"hidden": (8,), "gamma": 0.9}), RowSpec(2, 4))
    keys = jax.random.split(KEY, 3)
    rows = Transitions(
        obs_code=jax.random.normal(keys[0], (6, 3)),
        action=jax.random.uniform(keys[1], (6, 2), minval=-1, maxval=1),
        reward=jnp.arange(6.0),
        next_obs_code=jax.random.normal(keys[2], (6, 3)),
        done=jnp.arange(6) > 4,
        real=jnp.ones(6, bool),
    )
    learner = agent.init(KEY, 3)
    update = jax.jit(lambda learner, step: agent.update(learner, rows, KEY, HP, step)[0])

    def moved(new, old):
        return any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), new, old)))

    for step in range(3):
        new = update(learner, step)
        due = step % 2 == 0
        assert moved(new.params["critic"], learner.params["critic"])
        assert moved(new.params["actor"], learner.params["actor"]) == due
        assert moved(new.target, learner.target) == due
        learner = new
    assert update._cache_size() == 1
    noise = jnp.full((2,), 100.0)
    params = agent.export(learner)
    np.testing.assert_array_equal(agent.act(params, jnp.ones(3), noise, False), [1.0, 1.0])
    assert np.abs(agent.act(params, jnp.ones(3), noise, True)).max() < 0.5
