"""Cloning learns who acts how from the context alone: a tiny problem with a known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar.data import layout
from metastar.data.sampler import gather, sample_windows
from metastar.methods import bc
from metastar.training import runs
from metastar.types import Index, StepIn
from synthetic import one_window, point_robot_data, point_robot_spec

KEY = jax.random.key(0)
TASKS, UPDATES = 6, 400


def right_action(direction, obs):
    """What every task's behaviour does: off in the task's direction, and home a little."""
    return 0.5 * direction - 0.3 * obs


@pytest.fixture(scope="module")
def cloned():
    """Exported parameters, the method, and data whose last episode training never saw."""
    data = point_robot_data(num_tasks=TASKS, steps=20)
    angle = jnp.linspace(0, 2 * jnp.pi, TASKS, endpoint=False)
    direction = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    noise = 0.05 * jax.random.normal(KEY, data.action.shape)
    view = gather(data, Index(jnp.arange(TASKS), data.index, data.index >= 0))
    action = right_action(direction[:, None], view.obs) + noise
    data = data._replace(action=jnp.clip(action, -1, 1), reward=jnp.zeros_like(data.reward))
    seen = layout.show(data, np.arange(4) < 3 + np.zeros((TASKS, 1)))

    cfg = make_config.preset("bc", "point_robot_sparse", "debug")
    cfg.update_from_flattened_dict(
        {
            "sampler.meta_batch": TASKS,
            "bc.actor_average": 0.0,
            "bc.actor_lr": 5e-3,
            "bc.encoder_lr": 5e-3,
            "train.updates": UPDATES,
        }
    )
    method = runs.make_method(FrozenConfigDict(cfg), point_robot_spec(TASKS))
    (phase,) = method.phases

    @jax.jit
    def train(state):
        def one(state, step):
            batch = phase.sample(seen, KEY, step)
            key = jax.random.fold_in(KEY, step)
            return phase.update(state, batch, key, method.hp, step)

        return jax.lax.scan(one, state, jnp.arange(UPDATES))

    state, _ = train(method.init(KEY))
    return method, method.export(state), data, direction


def error(cloned, context_of):
    """Mean size of the deviation of greedy actions under a context of task `context_of(n)`."""
    method, params, data, direction = cloned
    unseen = layout.show(data, np.arange(4) >= 3 + np.zeros((TASKS, 1)))
    contexts = sample_windows(unseen, context_of(jnp.arange(TASKS)), KEY, 12)
    obs = jax.random.uniform(KEY, (50, 2), minval=-1, maxval=1)

    @jax.jit
    @jax.vmap
    def act(context):
        adaptation = method.infer(params, one_window(context), None, KEY)
        carry = method.policy.init(params, adaptation)

        def one(obs):
            step = StepIn(obs, jnp.zeros(2), jnp.zeros(()), obs, jnp.array(True))
            return method.policy.act(params, adaptation, carry, step, KEY, True)[0]

        return jax.vmap(one)(obs)

    expected = right_action(direction[:, None], obs[None])
    return float(np.linalg.norm(act(contexts) - expected, axis=-1).mean())


def test_the_clone_acts_as_the_task_of_an_unseen_context(cloned):
    assert error(cloned, lambda n: n) < 0.25


def test_under_the_context_of_the_opposite_task_it_does_not(cloned):
    assert error(cloned, lambda n: (n + TASKS // 2) % TASKS) > 0.7


def test_encoder_and_actor_learn_at_their_own_rates():
    optimizer = bc.make_optimizer()
    params = {part: jnp.ones(3) for part in bc.PARTS}
    state = optimizer.init(params)._replace(hyperparams={"learning_rate": jnp.array([0.1, 0.01])})
    grads = {part: jnp.full(3, 7.0) for part in bc.PARTS}
    updates, _ = optimizer.update(grads, state, params)  # Adam's first step is the rate itself
    np.testing.assert_allclose(updates["encoder"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(updates["actor"], -0.01, rtol=1e-5)
