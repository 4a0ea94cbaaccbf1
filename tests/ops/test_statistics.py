import itertools

import numpy as np
import pytest

from metastar.ops import statistics


@pytest.mark.parametrize(
    "scores, expected",
    [
        ([1, 2, 3, 100], 2.5),  # one dropped at each end
        ([3, 100, 1, 2], 2.5),  # order does not matter
        ([5.0], 5.0),  # nothing to drop
        ([0, 10, 20], 10.0),  # floor(3 / 4) = 0: the plain mean
        ([-100, 1, 2, 3, 4, 5, 6, 900], 3.5),  # two dropped at each end
    ],
)
def test_iqm_by_hand(scores, expected):
    assert statistics.iqm([np.array(scores, float)]) == pytest.approx(expected)


def test_iqm_pools_the_tasks():
    assert statistics.iqm([np.array([100.0, 1.0]), np.array([2.0, 3.0])]) == pytest.approx(2.5)


def test_mean_weighs_tasks_alike():
    strata = [np.array([0.0, 0.0, 0.0]), np.array([6.0])]
    assert statistics.mean(strata) == pytest.approx(3.0)  # not 6 / 4


@pytest.mark.parametrize("statistic", [statistics.mean, statistics.iqm])
def test_statistics_take_batches_of_resamples(statistic):
    rng = np.random.default_rng(0)
    strata = [rng.normal(size=(5, 4)), rng.normal(size=(5, 9))]
    one_by_one = [statistic([x[i] for x in strata]) for i in range(5)]
    np.testing.assert_allclose(statistic(strata), one_by_one)


def test_interval_of_equal_scores_has_no_width():
    strata = [np.full(4, 1.0), np.full(7, 3.0)]
    assert statistics.bootstrap_interval(strata) == (2.0, 2.0)


def test_interval_resamples_within_a_task_only():
    """Two tasks far apart: their difference is not uncertainty, so the interval stays narrow."""
    strata = [np.array([0.0, 1.0]), np.array([100.0, 101.0])]
    low, high = statistics.bootstrap_interval(strata)
    assert 50.0 <= low < 50.5 < high <= 51.0


def test_interval_equals_the_enumerated_bootstrap():
    """Three scores have 27 equally likely resamples: the percentiles can be written down."""
    scores = np.array([0.0, 1.0, 5.0])
    means = [np.mean(x) for x in itertools.product(scores, repeat=3)]
    low, high = statistics.bootstrap_interval([scores], level=0.8, num_resamples=20_000)
    assert low == pytest.approx(np.percentile(means, 10))
    assert high == pytest.approx(np.percentile(means, 90))


def test_interval_is_reproducible_and_widens_with_the_level():
    scores = [np.random.default_rng(1).normal(size=20)]
    first = statistics.bootstrap_interval(scores, level=0.9)
    assert first == statistics.bootstrap_interval(scores, level=0.9)
    wide = statistics.bootstrap_interval(scores, level=0.99)
    assert wide[0] < first[0] < first[1] < wide[1]


def test_one_seed_is_the_bootstrap_over_tasks():
    scores = np.array([[0.0, 1.0, 5.0]])
    means = [np.mean(x) for x in itertools.product(scores[0], repeat=3)]
    low, high = statistics.seed_task_interval(scores, level=0.8, num_resamples=20_000)
    assert low == pytest.approx(np.percentile(means, 10))
    assert high == pytest.approx(np.percentile(means, 90))


def test_one_task_is_the_bootstrap_over_seeds():
    scores = np.array([[0.0], [1.0], [5.0]])
    expected = statistics.seed_task_interval(scores.T, num_resamples=50_000)
    assert statistics.seed_task_interval(scores, num_resamples=50_000) == pytest.approx(expected)


def test_seeds_that_agree_leave_the_doubt_about_tasks():
    """Two tasks, 0 and 1: a quarter of the resamples is 0, one is 1, however many seeds agree.

    Drawing tasks for every seed apart would average them out.
    """
    agree = np.tile([0.0, 1.0], (50, 1))
    assert statistics.seed_task_interval(agree) == (0.0, 1.0)


def test_interval_over_seeds_and_tasks_is_wider_than_over_either():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 1)) + rng.normal(size=(1, 10))
    width = lambda x: np.diff(statistics.seed_task_interval(x)).item()  # noqa: E731
    both = width(scores)
    assert both > width(scores.mean(0, keepdims=True))
    assert both > width(scores.mean(1, keepdims=True))


def test_groups_are_paired_by_task():
    """Tasks far apart, a constant gain on each: the gain is certain, the means are not."""
    scores = np.array([[0.0, 50.0, 100.0], [0.0, 50.0, 100.0]])
    one, other = statistics.seed_task_means([scores, scores[:1] + 3.0])
    np.testing.assert_allclose(other - one, 3.0)
    assert one.std() > 10 and one.shape == (10_000,)
    apart = statistics.seed_task_means([scores + 3.0], seed=1)[0] - one
    assert apart.std() > 10


@pytest.mark.parametrize(
    "values, drop",
    [
        ([1.0, 2.0, 3.0], 0.0),
        ([3.0, 1.0, 2.0], 2.0),
        ([1.0, 5.0, 4.0, 6.0, 2.0], 4.0),
        ([7.0], 0.0),
    ],
)
def test_the_largest_drop_is_forward_in_time(values, drop):
    assert statistics.largest_drop(values) == drop
