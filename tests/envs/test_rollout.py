import jax
import jax.numpy as jnp
import numpy as np

import make_config
from metastar.envs.make import make_env
from metastar.envs.rollout import no_adaptation, rollout, uniform_policy
from metastar.types import Env, EnvSpec, Policy, StepOut

CFG = make_config.base(family="point_robot")
ENV = make_env(CFG)
TASKS = {"goal": jnp.array([[0.5, 0.0], [0.0, -0.5], [1.0, 1.0]])}

# A counter that ends its episode when it reaches the task's number, four steps at most.
COUNTER = Env(
    spec=EnvSpec("counter", 1, 1, 4, done_ends_episode=True),
    draw_reset=lambda key: jnp.zeros(()),
    reset=lambda noise, task, physics: (noise, noise[None]),
    step=lambda state, action, task, physics: (
        state + 1,
        StepOut((state + 1)[None], 10 * (state + 1), state + 1 >= task),
    ),
)


def recorder():
    """Acts with what it was shown, so that the recorded actions reveal the `StepIn`s."""

    def act(params, adaptation, carry, step_in, key, greedy):
        code = [carry, step_in.first, step_in.prev_reward, step_in.prev_next_obs.sum()]
        return (params @ jnp.stack([jnp.asarray(c, float) for c in code]))[None], carry + 1

    return Policy(lambda params, adaptation: jnp.zeros(()), act)


def test_shapes_consistency_and_one_trace():
    traces = []

    @jax.jit
    def run(key, tasks):
        traces.append(1)
        policy = uniform_policy(2, scale=0.5)
        return rollout(ENV, policy, None, no_adaptation(3, 4), tasks, key, 2, greedy=False)

    out = run(jax.random.key(0), TASKS)
    run(jax.random.key(1), TASKS)
    assert len(traces) == 1
    assert out.obs.shape == out.next_obs.shape == out.action.shape == (3, 4, 2, 60, 2)
    assert out.reward.shape == out.done.shape == out.valid.shape == (3, 4, 2, 60)
    assert out.valid.all() and not out.done.any()
    np.testing.assert_array_equal(out.obs[..., 1:, :], out.next_obs[..., :-1, :])
    np.testing.assert_allclose(out.next_obs - out.obs, 0.1 * out.action, atol=1e-6)
    goal = TASKS["goal"][:, None, None, None]
    distance = np.linalg.norm(out.next_obs - jnp.broadcast_to(goal, out.obs.shape), axis=-1)
    np.testing.assert_allclose(out.reward, -distance, atol=1e-6)
    assert 0.49 < np.abs(out.action).max() <= 0.5
    # No two streams or episodes share a start or an action.
    assert len(np.unique(out.obs[..., 0, 0])) == len(np.unique(out.action[..., 0, 0])) == 24


def test_starts_do_not_depend_on_the_policy_and_actions_are_clipped():
    key = jax.random.key(7)
    still = Policy(lambda p, a: (), lambda p, a, c, s, k, g: (jnp.array([5.0, -5.0]), c))
    a = rollout(ENV, uniform_policy(2), None, no_adaptation(3, 2), TASKS, key, 2)
    b = rollout(ENV, still, None, no_adaptation(3, 2), TASKS, key, 2)
    np.testing.assert_array_equal(a.obs[..., 0, :], b.obs[..., 0, :])
    np.testing.assert_array_equal(b.action, jnp.broadcast_to(jnp.array([1.0, -1.0]), b.obs.shape))


def test_the_carry_persists_and_first_marks_each_episode():
    task, key = jnp.array([9.0]), jax.random.key(0)

    def run(row):
        streams = no_adaptation(1, 1)
        return rollout(COUNTER, recorder(), jnp.array(row), streams, task, key, 2).action[
            0, 0, ..., 0
        ]

    np.testing.assert_allclose(run([0.1, 0, 0, 0]), [[0, 0.1, 0.2, 0.3], [0.4, 0.5, 0.6, 0.7]])
    np.testing.assert_allclose(run([0, 1, 0, 0]), [[1, 0, 0, 0], [1, 0, 0, 0]])
    # The previous step is still there after a reset: reward 40 and next_obs 4.
    np.testing.assert_allclose(run([0, 0, 0.01, 0]), [[0, 0.1, 0.2, 0.3], [0.4, 0.1, 0.2, 0.3]])
    np.testing.assert_allclose(run([0, 0, 0, 0.1]), [[0, 0.1, 0.2, 0.3], [0.4, 0.1, 0.2, 0.3]])


def test_a_terminal_ends_the_episode_where_it_should():
    task, key = jnp.array([2.0, 9.0]), jax.random.key(0)
    out = rollout(COUNTER, recorder(), jnp.array([0.1, 0, 0, 0]), no_adaptation(2, 1), task, key, 2)
    np.testing.assert_array_equal(out.valid[0, 0], [[True, True, False, False]] * 2)
    np.testing.assert_array_equal(out.done[0, 0, :, 1], [True, True])
    # Padding is not lived through: the third step the policy sees opens the second episode.
    np.testing.assert_allclose(out.action[0, 0, :, :2, 0], [[0, 0.1], [0.2, 0.3]])
    assert out.valid[1].all() and not out.done[1].any()
