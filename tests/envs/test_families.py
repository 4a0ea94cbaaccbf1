"""Golden numbers worked by hand, and a contract that every file of `envs/families` must meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from metastar import registry
from metastar.envs.families import point_robot, point_robot_sparse
from metastar.envs.point_mass import make_env

ENV = ConfigDict({"terminal_at_goal": False})
PAPER_ENV = ConfigDict({"terminal_at_goal": True})
GOAL = {"goal": np.array([0.6, 0.8])}


def play(env, start, actions, task):
    """Positions, rewards and done flags of a fixed action sequence."""
    position, outs = jnp.array(start), []
    for action in actions:
        position, out = env.step(position, jnp.array(action), task)
        outs.append(out)
    return [np.array(leaf) for leaf in jax.tree.map(lambda *x: jnp.stack(x), *outs)]


def test_a_step_moves_a_tenth_of_the_clipped_action():
    env = make_env("point_robot", ENV)
    actions = [[1.0, -0.5], [3.0, -7.0], [0.0, 0.0]]
    obs, _, done = play(env, [0.25, -0.5], actions, {"goal": jnp.zeros(2)})
    np.testing.assert_allclose(obs, [[0.35, -0.55], [0.45, -0.65], [0.45, -0.65]], rtol=1e-6)
    assert not done.any()


def test_dense_reward_is_the_negative_distance_of_the_next_position():
    env = make_env("point_robot", ENV)
    # From (0.3, 0.4) to the goal (0.6, 0.8): 0.5. One step of (1, 1) leads to (0.4, 0.5):
    # sqrt(0.04 + 0.09); a step of (0.5, 0) on from there to (0.45, 0.5): sqrt(0.0225 + 0.09).
    _, reward, _ = play(env, [0.3, 0.4], [[0.0, 0.0], [1.0, 1.0], [0.5, 0.0]], GOAL)
    np.testing.assert_allclose(reward, [-0.5, -np.sqrt(0.13), -np.sqrt(0.1125)], rtol=1e-6)


def test_sparse_reward_pays_within_a_fifth_of_the_goal():
    # Along the first axis at the goal's height: distances 0.25, 0.15, 0.05 on the way
    # there, then 0.05, 0.15, 0.25 beyond it.
    actions = [[1.0, 0.0]] * 6
    start = [0.6 - 0.35, 0.8]
    _, reward, done = play(make_env("point_robot_sparse", ENV), start, actions, GOAL)
    np.testing.assert_array_equal(reward, [0, 1, 1, 1, 1, 0])
    assert not done.any()
    _, reward, done = play(make_env("point_robot_sparse", PAPER_ENV), start, actions, GOAL)
    np.testing.assert_array_equal(reward, [0, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(done, [False, True, True, True, True, False])


def test_starts_fill_the_documented_boxes():
    corners = np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
    np.testing.assert_allclose(
        point_robot.start(np, corners, GOAL), [[-1, -1], [0, 0], [1, 1]], atol=1e-12
    )
    np.testing.assert_allclose(
        point_robot_sparse.start(np, corners, GOAL), [[-1.5, -0.5], [0, 0.5], [1.5, 1.5]]
    )


def test_tasks_follow_their_laws():
    dense = point_robot.draw_tasks(np.random.default_rng(0), 4000)["goal"]
    assert dense.dtype == np.float64 and np.abs(dense).max() <= 1
    np.testing.assert_allclose(dense.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(dense.var(0), 1 / 3, atol=0.02)
    sparse = point_robot_sparse.draw_tasks(np.random.default_rng(0), 4000)
    name, angle = point_robot_sparse.label(sparse)
    np.testing.assert_allclose(np.linalg.norm(sparse["goal"], axis=1), 1)
    assert angle.min() >= 0 and angle.max() <= np.pi and "[rad]" in name
    np.testing.assert_allclose(
        np.quantile(angle, [0.25, 0.5, 0.75]) / np.pi, [0.25, 0.5, 0.75], atol=0.03
    )


def test_sparse_optimum_by_hand():
    # Goal (1, 0). From (0.35, 0): gap 0.65, in reach (0.2) after 5 steps (0.5): 60 - 5 + 1 = 56.
    # From (1, 0): pays at once: 60. From (0.35, 0.75): after k steps the gaps are 0.65 - 0.1 k and
    # 0.75 - 0.1 k; k = 5: |(0.15, 0.25)| = 0.29, k = 6: |(0.05, 0.15)| = 0.16: 55.
    # From (9, 0): the gap of 8 minus 6 never gets within 0.2: 0.
    start = np.array([[0.35, 0.0], [1.0, 0.0], [0.35, 0.75], [9.0, 0.0]])
    best = point_robot_sparse.optimum(start, {"goal": np.array([1.0, 0.0])})
    np.testing.assert_array_equal(best, [56, 60, 55, 0])


def test_dense_optimum_by_hand():
    # One axis, gap 0.35: distances 0.25, 0.15, 0.05, 0, ...: -0.45.
    # Two axes, gaps 0.3 and 0.1: |(0.2, 0)|, |(0.1, 0)|, 0, ...: -0.3.
    start = np.array([[0.35, 0.0], [-0.3, 0.1]])
    best = point_robot.optimum(start, {"goal": np.zeros(2)})
    np.testing.assert_allclose(best, [-0.45, -0.3], atol=1e-12)


@pytest.mark.parametrize("name", ["point_robot", "point_robot_sparse"])
def test_the_optimum_is_attained_and_never_exceeded(name, x64):
    family, env = registry.find("family", name), make_env(name, ENV)
    tasks = jax.tree.map(jnp.array, family.draw_tasks(np.random.default_rng(1), 50))
    noise = jax.random.uniform(jax.random.key(0), (50, 2))
    noises = jax.random.uniform(jax.random.key(1), (50, 60, 2), minval=-1.0)

    def returns(noise, task, noises, greed):
        def step(position, noise):
            direct = (task["goal"] - position) / 0.1
            position, out = env.step(position, greed * direct + (1 - greed) * noise, task)
            return position, out.reward

        return jax.lax.scan(step, env.reset(noise, task)[0], noises)[1].sum()

    play = jax.jit(jax.vmap(returns, (0, 0, 0, None)))
    start = family.start(np, np.array(noise), None)
    best = family.optimum(start, tasks)
    np.testing.assert_allclose(play(noise, tasks, noises, 1.0), best, rtol=1e-9, atol=1e-9)
    assert (play(noise, tasks, noises, 0.3) <= best + 1e-9).all()


@pytest.mark.parametrize("name", registry.names("family"))
def test_contract_of_a_family(name):
    family = registry.find("family", name)
    spec, env = family.SPEC, make_env(name, ENV)
    assert spec.name == name and isinstance(family.SPARSE, bool)
    tasks = family.draw_tasks(np.random.default_rng(3), 5)
    again = family.draw_tasks(np.random.default_rng(3), 5)
    for field, value in tasks.items():
        assert value.dtype == np.float64 and len(value) == 5
        np.testing.assert_array_equal(value, again[field])
    text, values = family.label(tasks)
    assert isinstance(text, str) and np.shape(values) == (5,)

    noise = jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(0), 5))
    state, obs = jax.vmap(env.reset)(noise, tasks)
    action = jnp.linspace(-1, 1, 5 * spec.action_dim).reshape(5, spec.action_dim)
    new_state, out = jax.jit(jax.vmap(env.step))(state, action, tasks)
    assert obs.shape == out.obs.shape == (5, spec.obs_dim)
    assert out.reward.shape == out.done.shape == (5,) and out.done.dtype == bool
    assert family.optimum(np.array(obs), tasks).shape == (5,)
    # The same definition on NumPy, over a batch, gives the same numbers.
    np.testing.assert_allclose(family.start(np, np.array(noise), tasks), state, atol=1e-6)
    transition = (np, np.array(state), np.array(new_state), np.array(action), tasks)
    np.testing.assert_allclose(family.observe(np, np.array(new_state)), out.obs, atol=1e-6)
    np.testing.assert_allclose(family.reward(*transition), out.reward, atol=1e-6)
    assert family.goal_reached(*transition).shape == (5,)
