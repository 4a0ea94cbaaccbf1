"""Transitions encode their own identity, so that any mix-up of indices shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.data.sampler import (
    sample_other_behavior,
    sample_transitions,
    sample_windows,
    sample_windows_of_each,
)
from metastar.types import TaskData
from synthetic import point_robot_data

TASKS, EPISODES, STEPS = 3, 4, 5


def identity_data(length):
    """obs = (task, episode, step), reward = 100 task + 10 episode + step + 1."""
    task, episode, step = np.meshgrid(
        np.arange(TASKS), np.arange(EPISODES), np.arange(STEPS + 1), indexing="ij"
    )
    obs = np.stack([task, episode, step], -1).astype(np.float32)
    reward = (100 * task + 10 * episode + step + 1)[..., :STEPS].astype(np.float32)
    count = length.sum(1)
    flat = np.zeros((TASKS, EPISODES * STEPS), np.int32)
    for n in range(TASKS):
        ids = [e * STEPS + t for e in range(EPISODES) for t in range(length[n, e])]
        flat[n, : len(ids)] = ids
    stage = np.broadcast_to(np.arange(EPISODES), (TASKS, EPISODES))
    return TaskData(
        obs=jnp.array(obs),
        action=jnp.array(obs[:, :, :STEPS, :1]),
        reward=jnp.array(reward),
        done=jnp.array(step[..., :STEPS] == STEPS - 1),
        length=jnp.array(length),
        policy=jnp.array(stage) + 10,
        stage=jnp.array(stage),
        task={"goal": jnp.arange(TASKS * 2.0).reshape(TASKS, 2)},
        flat=jnp.array(flat),
        count=jnp.array(count),
    )


FULL = np.full((TASKS, EPISODES), STEPS)
RAGGED = np.array([[5, 2, 5, 1], [1, 1, 1, 1], [5, 5, 5, 5]])


@pytest.mark.parametrize("length", [FULL, RAGGED], ids=["full", "ragged"])
def test_windows_are_consecutive_valid_steps_of_one_task(length):
    data = identity_data(length)
    task_id = jnp.array([0, 1, 2, 2, 0] * 20)
    view = jax.jit(sample_windows, static_argnums=3)(data, task_id, jax.random.key(0), 7)
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
