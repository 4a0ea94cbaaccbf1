"""The numbers of the data card, worked by hand on data sets of a few episodes."""

import numpy as np
import pytest

from metastar.data import layout
from metastar.tools.card import summary

STEPS = 60
NAMES = (("random", "sac"), ("random", "expert"))


def make_fields():
    """Task 0 never earns; task 1 earns once, at step 30 of its first episode."""
    obs = np.zeros((2, 2, STEPS + 1, 2))
    obs[..., 0] = np.arange(STEPS + 1) / (STEPS - 1)  # valid steps span [0, 1]
    obs[:, 1, :, 1] = 1
    reward = np.zeros((2, 2, STEPS))
    reward[1, 0, 30] = 1
    return {
        "obs": obs,
        "action": np.zeros((2, 2, STEPS, 2)),
        "reward": reward,
        "length": np.full((2, 2), STEPS),
        "policy": np.array([[0, 1]] * 2),
        "stage": np.array([[0, 1]] * 2),
    }


def make_pair(shift=0.0, steps=STEPS, seed=0):
    """Two tasks, two sources that draw from one normal distribution; `shift` moves the second."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(2, 2, steps + 1, 3))
    obs[:, 1] += [shift, 0, 0]
    action = rng.normal(size=(2, 2, steps, 1))
    length, reward = np.full((2, 2), steps), np.zeros((2, 2, steps))
    fields = {"obs": obs, "action": action, "reward": reward, "length": length}
    return fields, np.array([[0, 1]] * 2)


def summarize(blocks, *args, **kwargs):
    return summary.summarize(layout.concatenate(blocks), *args, **kwargs)


def distances(blocks, *args):
    return summary.distances(layout.concatenate(blocks), *args)


def state_map(blocks, *args):
    return summary.state_map(layout.concatenate(blocks), *args)


def test_summary_by_hand():
    found = summarize(make_fields(), *NAMES, window=10)
    assert [source.name for source in found.sources] == ["random", "sac expert"]
    np.testing.assert_array_equal(found.source, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(found.returns, [[0, 0], [1, 0]])
    # Each episode walks one row of the grid: 20 of 400 cells.
    np.testing.assert_allclose(found.coverage, 20 / 400)
    # 120 steps have 111 windows of 10; those that start at steps 21 to 30 hold step 30.
    np.testing.assert_allclose(found.rewarded, [0, 10 / 111])


def test_summary_respects_lengths():
    fields = make_fields()
    fields["length"] = np.array([[60, 60], [30, 60]])
    found = summarize(fields, *NAMES, window=10)
    assert found.returns[1, 0] == 0 and found.rewarded[1] == 0
    np.testing.assert_allclose(found.coverage, [[20 / 400, 20 / 400], [10 / 400, 20 / 400]])
    fields["length"][1] = [31, 1]
    found = summarize(fields, *NAMES, window=100)
    np.testing.assert_allclose(found.rewarded, [0, 1], err_msg="one window, of all there is")


def test_an_episode_without_a_step_has_no_source():
    fields = make_fields()
    fields["length"] = np.array([[60, 0], [60, 0]])
    found = summarize(fields, *NAMES, window=10)
    assert [source.name for source in found.sources] == ["random"]
    np.testing.assert_array_equal(found.source, [[0, -1], [0, -1]])


def test_distances_by_hand():
    """Two sources that stand still, 5 apart: a standard deviation of 2.5, so a distance of 2."""
    fields = make_fields()
    fields["obs"] = np.zeros((2, 2, STEPS + 1, 2))
    fields["obs"][:, 1, :, 0] = 5
    apart = distances(fields, np.array([[0, 1], [0, 1]]), 2)
    assert apart.num == STEPS // 2
    np.testing.assert_allclose(apart.value, [[[0, 2], [2, 0]]] * 2)
    fields["obs"][..., 0] *= 1000
    rescaled = distances(fields, np.array([[0, 1], [0, 1]]), 2)
    np.testing.assert_allclose(rescaled.value, apart.value, err_msg="units do not matter")


def test_distances_see_actions_too():
    fields, source = make_pair()
    fields["obs"][:] = 0
    fields["action"][:, 0], fields["action"][:, 1] = -1, 1
    apart = distances(fields, source, 2)
    np.testing.assert_allclose(apart.value, [[[0, 2], [2, 0]]] * 2)


def test_the_diagonal_is_what_two_samples_of_one_source_show():
    same = distances(*make_pair(steps=300), 2)
    far = distances(*make_pair(steps=300, shift=4), 2)
    assert same.num == far.num == summary.SAMPLE
    for apart in (same, far):
        assert (np.diagonal(apart.value, axis1=1, axis2=2) > 0.3).all()
    floor = np.diagonal(same.value, axis1=1, axis2=2).mean()
    assert same.value[:, 0, 1].mean() == pytest.approx(floor, rel=0.2)  # no difference to see
    assert (far.value[:, 0, 1] > 1.5 * floor).all()


def test_the_two_samples_of_a_source_are_disjoint():
    """States that are all equally far from each other: a common one would bring samples closer."""
    fields, source = make_pair()
    fields["action"][:] = 0
    fields["obs"] = np.zeros((2, 2, STEPS + 1, STEPS))
    fields["obs"][:, 0, :STEPS] = np.eye(STEPS)
    apart = distances(fields, source, 2)
    share = 1 / (2 * STEPS)  # of the states that have a 1 in a given column
    np.testing.assert_allclose(apart.value[:, 0, 0], np.sqrt(2 / (share * (1 - share))))


def test_distances_are_drawn_from_valid_steps_by_a_fixed_generator():
    fields, source = make_pair()
    fields["length"][:] = 40
    expected = distances(fields, source, 2)
    assert expected.num == 20
    fields["obs"][:, :, 40:], fields["action"][:, :, 40:] = 1e6, 1e6
    np.testing.assert_array_equal(distances(fields, source, 2).value, expected.value)


def test_a_source_with_few_transitions_is_left_out():
    fields, source = make_pair()
    fields["length"][0, 1] = 2 * summary.MIN_SAMPLE - 1
    apart = distances(fields, source, 2)
    assert apart.num == STEPS // 2  # the short one does not make the others' samples small
    np.testing.assert_array_equal(np.isnan(apart.value), [[[0, 1], [1, 1]], np.zeros((2, 2))])
    fields["length"][1, 0] = 1
    assert distances(fields, source, 2) is None
    assert distances(fields, np.zeros((2, 2), int), 1) is None


def test_over_tasks_by_hand():
    mean, low, high, count = summary.over_tasks(
        np.array([[1.0, np.nan, np.nan], [3.0, 7.0, np.nan]])
    )
    np.testing.assert_array_equal(mean, [2, 7, np.nan])
    np.testing.assert_array_equal(low, [1, 7, np.nan])
    np.testing.assert_array_equal(high, [3, 7, np.nan])
    np.testing.assert_array_equal(count, [2, 1, 0])


def test_state_map_puts_states_into_cells():
    fields = make_fields()
    fields["obs"][:, :, STEPS:] = 99  # the last observation and padding do not count
    fields["length"][1, 1] = 0
    states = state_map(fields, np.array([[0, 1], [0, -1]]), 2)
    assert states.labels == ("observation 0", "observation 1")
    np.testing.assert_array_equal(states.count.sum((1, 2)), [2 * STEPS, STEPS])
    # Source 0 walks along the lower edge, from left to right; source 1 along the upper one.
    rows = [np.flatnonzero(count.sum(0)) for count in states.count]
    assert [len(row) for row in rows] == [1, 1] and rows[0] < rows[1]
    assert (states.count[0].sum(1) > 0).sum() > 40


def test_state_map_of_many_dimensions_shows_the_leading_components():
    fields, source = make_pair()
    t = np.random.default_rng(0).normal(size=fields["obs"].shape[:-1])
    fields["obs"] = np.stack([t, -1000 * t, 0 * t + 3], axis=-1)  # one direction, any units
    states = state_map(fields, source, 2)
    names = ("component 1 (100% of the variance)", "component 2 (0% of the variance)")
    assert states.labels == names
    assert (states.count.sum((0, 1)) > 0).sum() <= 2  # nothing along the second
    # Both columns of unit variance lie along the first, which has then the variance 2.
    extent = 1.2 * np.sqrt(2) * np.ptp(summary.span(t.ravel()[:, None] / t.std()))
    assert np.ptp(states.edges[0]) == pytest.approx(extent, rel=0.15)


def test_state_map_takes_one_dimension():
    fields, source = make_pair()
    fields["obs"] = fields["obs"][..., :1]
    states = state_map(fields, source, 2)
    assert states.labels == ("observation 0", "observation 0") and states.count.any()


def test_split_names_in_reading_order():
    split = {"ood_extreme": [], "ood_moderate": [], "test": [], "train": []}
    assert summary.split_names(split) == ["train", "test", "ood_extreme", "ood_moderate"]
