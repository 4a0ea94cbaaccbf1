"""Contexts of every form: what is drawn, how an own history is folded, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.data import contexts
from metastar.data.sampler import sample_windows, sample_windows_of_each
from metastar.errors import UserError
from metastar.types import Context
from synthetic import point_robot_data

KEY = jax.random.key(0)
TASKS, LENGTH = 3, 7
DATA = point_robot_data(num_tasks=TASKS)
draw = jax.jit(contexts.draw, static_argnums=2)
draw_of_each = jax.jit(contexts.draw_of_each, static_argnums=(1, 2))
TASK_ID = jnp.broadcast_to(jnp.arange(TASKS)[:, None], (TASKS, 5))


def parts_of(data):
    return tuple(
        jax.tree.map(lambda x, rows=rows: x[rows], data) for rows in np.split(range(3), [2])
    )


def test_one_window_is_drawn_as_ever():
    drawn = draw(DATA, TASK_ID, Context(LENGTH), KEY)
    plain = jax.jit(sample_windows, static_argnums=3)(DATA, TASK_ID, KEY, LENGTH)
    assert drawn.obs.shape == (TASKS, 5, 1, LENGTH, 2) and drawn.stage.shape == (TASKS, 5, 1)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda x: x[:, :, 0], drawn), plain)
    drawn = draw_of_each(parts_of(DATA), 5, Context(LENGTH), KEY)
    plain = jax.jit(sample_windows_of_each, static_argnums=(1, 3))(parts_of(DATA), 5, KEY, LENGTH)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda x: x[:, :, 0], drawn), plain)


@pytest.mark.parametrize("ordered", [True, False])
def test_shorter_contexts_keep_a_uniform_number_of_the_same_transitions(ordered):
    whole, cut = Context(LENGTH, ordered=ordered), Context(LENGTH, ordered=ordered, shortest=3)
    task_id, names = jnp.arange(3000) % TASKS, ("context", "positive")
    draw = jax.jit(contexts.draw_views, static_argnums=(3, 4))
    plain, views = (draw(DATA, task_id, KEY, asked, names) for asked in (whole, cut))
    nums = []
    for name in names:
        assert plain[name].valid.all()
        num = np.asarray(views[name].valid.sum(-1))
        np.testing.assert_array_equal(views[name].valid, np.arange(LENGTH) < num[:, None])
        np.testing.assert_array_equal(views[name].obs, plain[name].obs)
        counts = np.bincount(num, minlength=LENGTH + 1)
        assert not counts[:3].any() and (np.abs(counts[3:] - 600) < 120).all()
        nums.append(num)
    assert abs(np.corrcoef(nums)[0, 1]) < 0.1


def rows_of(data, task):
    """Every transition of a task: observation, action, observation after it."""
    row = np.arange(data.reward.shape[1]) + np.asarray(data.episode[task])
    obs = np.asarray(data.obs[task])
    return np.concatenate([obs[row], data.action[task], obs[row + 1]], -1)


@pytest.mark.parametrize("ordered", [True, False])
def test_windows_and_bags_are_of_their_task_and_differ(ordered):
    asked = Context(LENGTH, num=4, ordered=ordered)
    both = (
        draw(DATA, TASK_ID, asked, KEY),
        draw_of_each(parts_of(DATA), 5, asked, KEY),
    )
    for view in both:
        assert view.reward.shape == (TASKS, 5, 4, LENGTH) and view.valid.all()
        found = np.concatenate([view.obs, view.action, view.next_obs], -1)
        for task in range(TASKS):
            known = rows_of(DATA, task)
            same = (found[task][..., None, :] == known).all(-1)  # [W, C, L, P]
            assert same.any(-1).all()
            place = same.argmax(-1)
            assert len(np.unique(place[..., 0])) > 10  # of 20 draws
            assert ((np.diff(place, axis=-1) == 1).all()) == ordered


def test_a_task_without_data_gives_nothing_valid():
    data = DATA._replace(count=DATA.count.at[1].set(0))
    for ordered in (True, False):
        view = draw_of_each(parts_of(data), 2, Context(LENGTH, 3, ordered), KEY)
        assert view.valid.any((1, 2, 3)).tolist() == [True, False, True]


def test_an_own_history_is_folded_oldest_first():
    asked = Context(3, num=2)
    view = sample_windows(DATA, jnp.array(0), KEY, contexts.steps_of(asked))
    context = contexts.folded(view, asked)
    np.testing.assert_array_equal(context.obs[0], view.obs[:3])
    np.testing.assert_array_equal(context.reward[1], view.reward[3:])
    assert context.policy.shape == (2,)


@pytest.mark.parametrize(
    "context, counts, words",
    [
        (
            Context(8),
            [9, 7],
            "'m' asks for windows of 8 steps but a task of the data set has only 7",
        ),
        (Context(8, ordered=False), [3, 0], "has only 0"),
        (Context(8, num=0), [9], "contexts of 0 windows of 8 steps; both must be at least 1"),
    ],
)
def test_what_data_cannot_fill_is_refused(context, counts, words):
    with pytest.raises(UserError, match=words) as error:
        contexts.check(context, np.array(counts), "m")
    assert "\n" not in str(error.value)
    contexts.check(Context(8, ordered=False), np.array([1]), "m")
    contexts.check(Context(8, num=9), np.array([8]), "m")
