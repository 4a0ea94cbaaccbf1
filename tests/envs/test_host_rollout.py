"""A simulator on the host and one in JAX give the same rollout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar.envs.make import make_env
from metastar.envs.rollout import make_rollout, no_adaptation
from metastar.types import Adaptation, Env, EnvSpec, Policy, StepOut

TASKS = {"goal": jnp.array([[0.5, 0.0], [0.0, -0.5], [1.0, 1.0]])}


def on_host(env):
    """The same simulator, called on NumPy batches."""
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    return env._replace(
        reset=lambda *args: jax.device_get(reset(*args)),
        step=lambda *args: jax.device_get(step(*args)),
        on_host=True,
    )


def point_robot():
    return make_env(make_config.base(family="point_robot"))


def short_episodes():
    """A walk on a line whose episodes end at the task's number, after five steps at the latest."""

    def step(state, action, task, physics):
        state = state + 1 + (action[0] > 0)
        return state, StepOut(state[None], 10.0 * state, state >= task["goal"][0] * 8)

    return Env(
        EnvSpec("walk", 1, 1, 5, done_ends_episode=True),
        lambda key: jax.random.uniform(key),
        lambda noise, task, physics: (noise, noise[None]),
        step,
    )


def rambler(action_dim):
    """A stochastic policy with a memory: what it does depends on everything it is shown."""

    def act(params, adaptation, carry, step_in, key, greedy):
        noise = jax.random.normal(key, (action_dim,))
        seen = step_in.obs.sum() + step_in.prev_reward + step_in.prev_next_obs.sum()
        carry = 0.5 * carry + seen + step_in.first + step_in.prev_action.sum()
        return params * jnp.sin(carry) + adaptation.code.sum() + 0.3 * noise, carry

    return Policy(lambda params, adaptation: adaptation.code.sum(), act)


@pytest.mark.parametrize("make", [point_robot, short_episodes])
@pytest.mark.parametrize("params_axis", [None, 0])
def test_both_rollouts_agree(make, params_axis):
    env = make()
    params = jnp.array([0.2, -0.5, 0.7]) if params_axis == 0 else jnp.array(0.4)
    adaptation = Adaptation(jax.random.normal(jax.random.key(3), (3, 2, 1)))
    inputs = (params, adaptation, TASKS, jax.random.key(0))
    in_jax, host = (
        make_rollout(e, rambler(env.spec.action_dim), 2, False, params_axis)(*inputs)
        for e in (env, on_host(env))
    )
    assert host.obs.shape == in_jax.obs.shape
    np.testing.assert_array_equal(host.valid, in_jax.valid)
    assert host.valid.all() == (make is point_robot)
    for name in ("obs", "action", "reward", "next_obs", "done"):
        a, b = (np.asarray(getattr(x, name))[host.valid] for x in (host, in_jax))
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)


def test_the_policy_is_traced_once():
    traces = []
    policy = rambler(2)

    def act(*args):
        traces.append(1)
        return policy.act(*args)

    run = make_rollout(on_host(point_robot()), Policy(policy.init, act), 2)
    code = no_adaptation(3, 1)._replace(code=jnp.zeros((3, 1, 1)))
    run(jnp.ones(()), code, TASKS, jax.random.key(0))
    run(jnp.zeros(()), code, TASKS, jax.random.key(1))
    assert len(traces) == 1
