"""Our simulators under brax's wrappers: episode ends, automatic resets, a task for each stream."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs import training

import make_config
from metastar.envs.backends.brax_adapter import as_brax
from metastar.envs.make import make_env
from metastar.errors import UserError
from metastar.types import Env, EnvSpec, StepOut

GOALS = {"goal": np.array([[1.0, 0.0], [0.0, -1.0], [0.5, 0.5]])}
# A counter that meets a terminal in its third step.
COUNTER = Env(
    spec=EnvSpec("counter", 1, 1, 5, done_ends_episode=True),
    draw_reset=lambda key: jnp.zeros(()),
    reset=lambda noise, task, physics: (noise, noise[None]),
    step=lambda state, action, task, physics: (
        state + 1,
        StepOut((state + 1)[None], 10 * (state + 1), state + 1 >= 3),
    ),
)


def simulator(family, backend="c"):
    return make_env(make_config.base(family=family, simulator__backend=backend))


def play(env, actions, batch):
    """States [T + 1] of brax's usual stack of wrappers, under jit and scan as a learner has it."""

    @jax.jit
    def run(key, actions):
        first = env.reset(jax.random.split(key, batch))

        def step(state, action):
            state = env.step(state, action)
            return state, state

        return first, jax.lax.scan(step, first, actions)[1]

    return run(jax.random.PRNGKey(0), actions)


def test_point_robots_under_the_wrappers_of_brax():
    env = simulator("point_robot")
    adapter = as_brax(env, GOALS)
    assert (adapter.observation_size, adapter.action_size) == (2, 2)
    wrapped = training.wrap(adapter, episode_length=4)
    action = jnp.full((6, 16, 2), jnp.array([2.0, -0.5]))  # clipped: a step is (0.1, -0.05)
    first, states = play(wrapped, action, 16)
    start, goal = np.array(first.obs), np.array(first.info["task"]["goal"])
    assert len(np.unique(goal, axis=0)) == 3  # every goal was drawn
    assert len(np.unique(start, axis=0)) == 16
    moved, shown = np.array([1, 2, 3, 4, 1, 2]), np.array([1, 2, 3, 0, 1, 2])
    move = np.array([0.1, -0.05])
    np.testing.assert_allclose(states.obs, start + move * shown[:, None, None], atol=1e-6)
    distance = np.linalg.norm(start + move * moved[:, None, None] - goal, axis=-1)
    np.testing.assert_allclose(states.reward, -distance, rtol=1e-5)
    ends = np.array([0, 0, 0, 1, 0, 0])[:, None].repeat(16, 1)
    np.testing.assert_array_equal(states.done, ends)
    np.testing.assert_array_equal(states.info["truncation"], ends)  # a time limit, no terminal
    np.testing.assert_array_equal(states.info["steps"][:, 0], [1, 2, 3, 4, 1, 2])
    assert (
        np.array(states.info["task"]["goal"]) == goal
    ).all()  # an automatic reset keeps the task


def test_a_terminal_ends_an_episode_only_where_ours_does():
    task = {"number": jnp.zeros(1)}
    _, states = play(training.wrap(as_brax(COUNTER, task), 5), jnp.zeros((4, 2, 1)), 2)
    np.testing.assert_array_equal(states.done[:, 0], [0, 0, 1, 0])
    np.testing.assert_array_equal(states.info["truncation"][:, 0], 0)
    np.testing.assert_array_equal(states.obs[:, 0, 0], [1, 2, 0, 1])
    recorded = COUNTER._replace(spec=COUNTER.spec._replace(done_ends_episode=False))
    _, states = play(training.wrap(as_brax(recorded, task), 5), jnp.zeros((5, 2, 1)), 2)
    np.testing.assert_array_equal(states.done[:, 0], [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(states.obs[:, 0, 0], [1, 2, 3, 4, 0])


def test_the_evaluation_of_brax_sums_rewards_up():
    env = training.EvalWrapper(training.wrap(as_brax(COUNTER, {"number": jnp.zeros(1)}), 5))
    _, states = play(env, jnp.zeros((4, 2, 1)), 2)
    total = states.info["eval_metrics"].episode_metrics["reward"][-1]
    np.testing.assert_array_equal(total, [60.0, 60.0])  # 10 + 20 + 30: the first episode only


def test_mistakes_are_one_sentence():
    with pytest.raises(UserError, match=r"simulator\.backend to 'mjx'"):
        as_brax(simulator("cheetah_vel"), {"velocity": np.ones(1)})
    env = simulator("point_robot")
    for tasks in ({"velocity": 1.0}, {"a": np.ones(2), "b": np.ones(3)}, {"a": np.ones(0)}, {}):
        with pytest.raises(UserError, match="leading axis"):
            as_brax(env, tasks)


@pytest.mark.slow
def test_the_cheetah_on_mjx_under_the_wrappers_of_brax():
    env = simulator("cheetah_vel", "mjx")
    wrapped = training.wrap(as_brax(env, {"velocity": np.array([1.0])}), episode_length=3)
    first, states = play(wrapped, jnp.zeros((4, 2, 6)), 2)
    assert states.obs.shape == (4, 2, 17)
    assert np.isfinite(states.reward).all() and (states.reward < -0.5).all()  # it stands still
    np.testing.assert_array_equal(states.done[:, 0], [0, 0, 1, 0])
    np.testing.assert_array_equal(states.obs[2], first.obs)
    np.testing.assert_array_equal(states.obs[3], states.obs[0])
