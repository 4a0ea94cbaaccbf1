"""Transitions encode their own identity, so that any mix-up of indices shows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.data import layout, sampler, store
from metastar.data.sampler import look_up, returns_to_go, sample_windows_of_each
from synthetic import point_robot_data

# Of (data, task_id, key, length, ...), each one program in place of one for every operation.
by_length = partial(jax.jit, static_argnums=3)
draw_bags = by_length(sampler.draw_bags)
draw_other_behavior = by_length(sampler.draw_other_behavior)
draw_sequences = by_length(sampler.draw_sequences)
draw_windows = by_length(sampler.draw_windows)
sample_other_behavior = by_length(sampler.sample_other_behavior)
sample_transitions = by_length(sampler.sample_transitions)
sample_windows = by_length(sampler.sample_windows)
gather = jax.jit(sampler.gather)

TASKS, EPISODES, STEPS = 3, 4, 5


def identity_blocks(length):
    """obs = (task, episode, step), reward = 100 task + 10 episode + step + 1."""
    task, episode, step = np.meshgrid(
        np.arange(TASKS), np.arange(EPISODES), np.arange(STEPS + 1), indexing="ij"
    )
    obs = np.stack([task, episode, step], -1).astype(np.float32)
    stage = np.broadcast_to(np.arange(EPISODES), (TASKS, EPISODES))
    return {
        "obs": obs,
        "action": obs[:, :, :STEPS, :1],
        "reward": (100 * task + 10 * episode + step + 1)[..., :STEPS].astype(np.float32),
        "done": step[..., :STEPS] == STEPS - 1,
        "length": length,
        "policy": stage + 10,
        "stage": stage,
    }


def identity_data(length):
    goal = np.arange(TASKS * 2.0).reshape(TASKS, 2)
    return layout.from_blocks(identity_blocks(length), {"goal": goal})


FULL = np.full((TASKS, EPISODES), STEPS)
RAGGED = np.array([[5, 2, 5, 1], [1, 1, 1, 1], [5, 5, 5, 5]])


@pytest.mark.parametrize("length", [FULL, RAGGED], ids=["full", "ragged"])
def test_windows_are_consecutive_valid_steps_of_one_task(length):
    data = identity_data(length)
    task_id = jnp.array([0, 1, 2, 2, 0] * 20)
    view = sample_windows(data, task_id, jax.random.key(0), 7)
    for n in range(len(task_id)):
        steps = [(e, t) for e in range(EPISODES) for t in range(length[task_id[n], e])]
        valid = np.array(view.valid[n])
        expected_valid = min(7, len(steps))
        assert valid.sum() == expected_valid and valid[:expected_valid].all()
        obs = np.array(view.obs[n])[valid].astype(int)
        assert (obs[:, 0] == task_id[n]).all()
        at = steps.index((obs[0, 1], obs[0, 2]))
        assert [(e, t) for _, e, t in obs] == steps[at : at + expected_valid]
        first, prev = np.array(view.first[n])[valid], np.array(view.prev_reward[n])[valid]
        reward = np.array(view.reward[n])[valid]
        np.testing.assert_array_equal(first, obs[:, 2] == 0)
        np.testing.assert_array_equal(prev, np.where(first, 0, reward - 1))
        np.testing.assert_array_equal(reward, obs @ [100, 10, 1] + 1)
        np.testing.assert_array_equal(np.array(view.next_obs[n])[valid], obs + np.array([0, 0, 1]))
        np.testing.assert_array_equal(np.array(view.done[n])[valid], obs[:, 2] == STEPS - 1)
        np.testing.assert_array_equal(np.array(view.episode[n])[valid], obs[:, 1])
        np.testing.assert_array_equal(np.array(view.step[n])[valid], obs[:, 2])
        assert view.stage[n] == obs[-1, 1] and view.policy[n] == obs[-1, 1] + 10


def test_window_starts_are_uniform():
    data = identity_data(FULL)
    view = sample_windows(data, jnp.zeros(20_000, int), jax.random.key(1), 7)
    start = np.array(view.obs[:, 0] @ jnp.array([0.0, STEPS, 1.0])).astype(int)
    counts = np.bincount(start, minlength=14)
    assert len(counts) == EPISODES * STEPS - 7 + 1
    np.testing.assert_allclose(counts / 20_000, 1 / 14, atol=0.01)


def test_transitions_are_uniform_over_valid_steps_only():
    data = identity_data(RAGGED)
    view = sample_transitions(data, jnp.array([0, 1]), jax.random.key(2), 20_000)
    assert view.valid.all()
    seen, counts = np.unique(np.array(view.obs[0]).astype(int), axis=0, return_counts=True)
    assert len(seen) == RAGGED[0].sum()
    np.testing.assert_allclose(counts / 20_000, 1 / len(seen), atol=0.01)
    assert len(np.unique(np.array(view.obs[1]), axis=0)) == 4


def test_a_positive_of_another_behaviour():
    """Two of four episodes of each task are by policy 1; windows are labelled by their end."""
    data = point_robot_data(num_tasks=3, episodes=4, steps=60)
    data = data._replace(policy=jnp.tile(jnp.array([0, 0, 1, 1]), (3, 1)))
    task_id = jnp.arange(3)
    keys = jax.random.split(jax.random.key(0), 200)

    @jax.jit
    @jax.vmap
    def draw(key):
        key_context, key_positive = jax.random.split(key)
        context = sample_windows(data, task_id, key_context, 12)
        positive = sample_other_behavior(
            data, task_id, key_positive, 12, context.policy, context.stage
        )
        return context.policy, positive

    policy, positive = draw(keys)
    assert set(np.unique(policy)) == {0, 1}
    np.testing.assert_array_equal(positive.policy, 1 - policy)
    assert positive.valid.all() and positive.obs.shape == (200, 3, 12, 2)
    # Uniform over the starts of that behaviour, not the first that comes: early and late ones.
    start = positive.obs[:, 0, 0, 0]
    assert len(np.unique(start)) > 90


def test_a_task_of_one_behaviour_gives_what_it_has():
    data = point_robot_data(num_tasks=2)
    zeros = jnp.zeros(2, int)
    window = sample_other_behavior(data, jnp.arange(2), jax.random.key(0), 12, zeros, zeros)
    assert window.valid.all() and (window.policy == 0).all()


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_windows_of_parts_are_those_of_the_whole(cut):
    """The arrays of the parts are not joined, and no draw depends on where they were cut."""
    data, key = identity_data(RAGGED), jax.random.key(0)
    parts = [jax.tree.map(lambda x: x[:cut], data), jax.tree.map(lambda x: x[cut:], data)]
    parts = [part for part in parts if len(part.count)]
    found = jax.jit(sample_windows_of_each, static_argnums=(1, 3))(tuple(parts), 40, key, 7)
    task_id = jnp.broadcast_to(jnp.arange(TASKS)[:, None], (TASKS, 40))
    jax.tree.map(np.testing.assert_array_equal, found, sample_windows(data, task_id, key, 7))


def numpy_windows(blocks, visible, task_id, start, length):
    """The draws as they were made from equal blocks [N, E, T], step by step."""
    found = {name: [] for name in ("obs", "next_obs", "reward", "prev_reward", "done", "valid")}
    found |= {name: [] for name in ("first", "episode", "step", "action")}
    tags = {"policy": [], "stage": []}
    for n, s in zip(task_id, start):
        steps = [
            (n, e, t) for e in np.flatnonzero(visible[n]) for t in range(blocks["length"][n, e])
        ]
        rows = [steps[p] if p < len(steps) else steps[0] for p in range(s, s + length)]
        window = {name: [] for name in found}
        for n, e, t in rows:
            window["obs"].append(blocks["obs"][n, e, t])
            window["next_obs"].append(blocks["obs"][n, e, t + 1])
            window["prev_reward"].append(blocks["reward"][n, e, t - 1] if t else 0)
            for name in ("reward", "action", "done"):
                window[name].append(blocks[name][n, e, t])
            window["first"].append(t == 0)
            window["episode"].append(e)
            window["step"].append(t)
        window["valid"] = [p < len(steps) for p in range(s, s + length)]
        for name, values in window.items():
            found[name].append(values)
        last = rows[max(sum(window["valid"]) - 1, 0)]
        for name, values in tags.items():
            values.append(blocks[name][last[:2]])
    return {name: np.array(values) for name, values in (found | tags).items()}


@pytest.mark.parametrize("source", [None, (10, 0), (12, 2)])
@pytest.mark.parametrize("length", [1, 4, 9])
def test_draws_are_those_that_equal_blocks_gave(source, length):
    """The random draws and all they look up, against a loop in NumPy over equal blocks."""
    blocks, data, key = identity_blocks(RAGGED), identity_data(RAGGED), jax.random.key(3)
    visible = np.ones((TASKS, EPISODES), bool)
    if source is not None:
        data = store.restrict(data, *source)
        visible = (blocks["policy"] == source[0]) & (blocks["stage"] == source[1])
    count = (RAGGED * visible).sum(1)
    task_id = np.arange(60) % TASKS
    start = jax.random.randint(key, (60,), 0, np.maximum(count[task_id] - length, 0) + 1)
    expected = numpy_windows(blocks, visible, task_id, np.array(start), length)
    view = sample_windows(data, jnp.array(task_id), key, length)
    assert set(expected) == set(view._fields)
    for name, value in expected.items():
        np.testing.assert_array_equal(getattr(view, name), value, err_msg=name)
    # A bag is as many windows of one step, which start anywhere.
    place = jax.random.randint(key, (60, length), 0, count[task_id][:, None])
    bag = sample_transitions(data, jnp.array(task_id), key, length)
    for name in ("obs", "next_obs", "reward", "prev_reward", "first"):
        rows = [
            numpy_windows(blocks, visible, [n] * length, p, 1)[name][:, 0]
            for n, p in zip(task_id, np.array(place))
        ]
        np.testing.assert_array_equal(getattr(bag, name), rows, err_msg=name)


def test_every_sample_is_a_draw_and_a_gather():
    data, task_id, key = identity_data(RAGGED), jnp.arange(TASKS), jax.random.key(4)
    zeros = jnp.zeros(TASKS, int)
    pairs = [
        (draw_windows(data, task_id, key, 4), sample_windows(data, task_id, key, 4)),
        (draw_bags(data, task_id, key, 4), sample_transitions(data, task_id, key, 4)),
        (
            draw_other_behavior(data, task_id, key, 4, zeros, zeros),
            sample_other_behavior(data, task_id, key, 4, zeros, zeros),
        ),
    ]
    for index, view in pairs:
        assert index.task.shape == (TASKS,) and index.position.shape == (TASKS, 4)
        jax.tree.map(np.testing.assert_array_equal, gather(data, index), view)


def test_sequences_stay_in_one_episode_and_start_uniformly():
    """Of lengths 5, 2, 5, 1 three steps have 3 + 1 + 3 + 1 starts: short episodes have one."""
    data = identity_data(RAGGED)
    index = draw_sequences(data, jnp.zeros((200, 100), int), jax.random.key(5), 3)
    view = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), gather(data, index))
    assert (view.episode == view.episode[:, :1]).all()
    steps = view.step[:, :1] + np.arange(3)
    np.testing.assert_array_equal(view.valid, steps < RAGGED[0][view.episode[:, :1]])
    np.testing.assert_array_equal(view.step[view.valid], steps[view.valid])
    starts, counts = np.unique(
        np.stack([view.episode[:, 0], view.step[:, 0]], -1), axis=0, return_counts=True
    )
    expected = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (3, 0)]
    np.testing.assert_array_equal(starts, expected)
    np.testing.assert_allclose(counts / 20_000, 1 / 8, atol=0.01)


def test_sequences_of_every_task_and_of_one_source():
    data, task_id = identity_data(RAGGED), jnp.arange(TASKS).repeat(50)
    view = gather(data, draw_sequences(data, task_id, jax.random.key(6), 5))
    np.testing.assert_array_equal(view.obs[:, 0, 0], task_id)
    assert (np.asarray(view.episode[100:]).max(1) > 0).any() and view.valid[100:].all()
    own = store.restrict(data, 12, 2)
    view = gather(own, draw_sequences(own, task_id, jax.random.key(6), 2))
    assert (np.asarray(view.obs[..., 1]) == 2).all() and (view.stage == 2).all()
    none = store.restrict(data, 12, 0)
    view = gather(none, draw_sequences(none, task_id, jax.random.key(6), 2))
    assert (
        not view.valid.any() and not sample_windows(none, task_id, jax.random.key(0), 2).valid.any()
    )
    assert np.isfinite(view.obs).all()


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_returns_to_go_against_a_loop(gamma):
    blocks, data = identity_blocks(RAGGED), identity_data(RAGGED)
    index = draw_bags(data, jnp.arange(TASKS), jax.random.key(7), 50)
    found = look_up(jax.jit(returns_to_go)(data, gamma), index)
    view = gather(data, index)
    for n in range(TASKS):
        for k in range(50):
            e, t = int(view.episode[n, k]), int(view.step[n, k])
            rest = blocks["reward"][n, e, t : RAGGED[n, e]]
            expected = (rest * gamma ** np.arange(len(rest))).sum()
            np.testing.assert_allclose(found[n, k], expected, rtol=1e-6)
    padding = np.arange(data.reward.shape[1]) >= RAGGED.sum(1)[:, None]
    assert (np.asarray(returns_to_go(data))[padding] == 0).all()
    np.testing.assert_allclose(
        layout.returns_of(data),
        np.where(np.arange(STEPS) < RAGGED[..., None], blocks["reward"], 0).sum(-1),
    )
