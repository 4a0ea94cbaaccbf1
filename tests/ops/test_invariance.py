import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.ops import invariance


def cells(num_tasks=40, sources=4, windows=16, leak=0.5, noise=0.3, dim=6, seed=0):
    """Codes of tasks 1 apart per dimension, plus `leak` along an axis per source, plus noise."""
    rng = np.random.default_rng(seed)
    task = rng.normal(size=(num_tasks, 1, 1, dim))
    source = leak * np.eye(sources, dim)[None, :, None]
    code = task + source + noise * rng.normal(size=(num_tasks, sources, windows, dim))
    return code, np.ones(code.shape[:-1], bool)


def between(code, keep):
    parts = invariance.variance_parts(code, keep)
    return invariance.between_variances(parts, np.ones(len(parts.policy)))


def test_ratio_by_hand():
    """Two tasks, two sources, two windows of one number each.

    Cell means 1, 11 and 21, 35; variances within 2, 2 and 2, 8. Task means 6 and 28.
    policy: 50 - (1 + 1) / 2 = 49 and 98 - (1 + 4) / 2 = 95.5; mean 72.25.
    tasks: 22^2 / 2 = 242, less the mean of (1 + 1) / 4 and (1 + 4) / 4: 242 - 0.875.
    """
    code = np.array([[[0, 2], [10, 12]], [[20, 22], [33, 37]]], float)[..., None]
    policy, tasks = between(code, np.ones((2, 2, 2), bool))
    assert (policy, tasks) == pytest.approx((72.25, 241.125))


def test_windows_that_do_not_count_change_nothing():
    code, keep = cells(num_tasks=3)
    padded = np.concatenate([code, np.full_like(code, 1e6)], 2)
    padded_keep = np.concatenate([keep, ~keep], 2)
    np.testing.assert_allclose(between(padded, padded_keep), between(code, keep))


def test_cells_and_tasks_that_say_nothing_are_left_out():
    code, keep = cells(num_tasks=4)
    keep[0, 1] = False  # three cells remain
    keep[1, 0, 1:] = False  # one window is no cell
    keep[2, 1:] = False  # one cell is no task
    parts = invariance.variance_parts(code, keep)
    assert len(parts.policy) == 3
    alone = invariance.variance_parts(code[:1, [0, 2, 3]], keep[:1, [0, 2, 3]])
    for all_tasks, one in zip(parts, alone):
        np.testing.assert_allclose(all_tasks[0], one[0])


@pytest.mark.parametrize("leak", [0.0, 0.3, 2.0])
def test_a_known_leak_is_found_with_its_size(leak):
    """Axes of length `leak`: `sum_k |m_k - M|^2 / (K - 1)` is leak^2, and dim = 6 between tasks."""
    found = [between(*cells(leak=leak, num_tasks=200, seed=seed))[0] for seed in range(5)]
    assert np.mean(found) == pytest.approx(leak**2, abs=0.01)
    _, tasks = between(*cells(leak=leak, num_tasks=200))
    assert tasks == pytest.approx(6, rel=0.15)


def test_noise_is_taken_out_of_both_terms():
    """Few and noisy windows, no tasks, no leak: both terms are 0 on average, a plain one is not."""
    draws = []
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(size=(4, 3, 2, 5)) * [
            [[[2.0]], [[1.0]], [[0.5]]]
        ]
        draws.append((*between(noise, np.ones((4, 3, 2), bool)), noise.mean(2).var(1).sum()))
    policy, tasks, plain = np.mean(draws, 0)
    error = np.std(draws, 0) / np.sqrt(len(draws))
    assert abs(policy) < 3 * error[0] and abs(tasks) < 3 * error[1] and plain > 1


def test_times_count_tasks_as_often_as_repeating_them():
    code, keep = cells(num_tasks=3)
    parts = invariance.variance_parts(code, keep)
    again = invariance.variance_parts(code[[0, 0, 2]], keep[[0, 0, 2]])
    expected = invariance.between_variances(again, np.ones(3))
    found = invariance.between_variances(parts, np.array([[2, 0, 1], [1, 1, 1]]))
    np.testing.assert_allclose([x[0] for x in found], expected)
    np.testing.assert_allclose([x[1] for x in found], between(code, keep))


def test_mean_distances_equal_a_slow_loop():
    rng = np.random.default_rng(0)
    x, keep = rng.normal(size=(3, 4, 2)), rng.random((3, 4)) < 0.7
    keep[:, :2] = True
    found = invariance.mean_distances(jnp.asarray(x), jnp.asarray(keep))
    for g in range(3):
        for h in range(3):
            pairs = [
                np.linalg.norm(x[g, i] - x[h, j])
                for i in np.flatnonzero(keep[g])
                for j in np.flatnonzero(keep[h])
                if g != h or i != j
            ]
            assert found[g, h] == pytest.approx(np.mean(pairs), rel=1e-5)


def test_energy_distance_by_hand_and_without_bias():
    """X = {0, 2}, Y = {1, 1}: 2 * 1 - 2 - 0 = 0."""
    x = jnp.array([[[0.0], [2.0]], [[1.0], [1.0]], [[5.0], [7.0]]])
    energy = invariance.energy_distances(invariance.mean_distances(x, jnp.ones((3, 2), bool)))
    np.testing.assert_allclose(energy, [[0, 0, 6], [0, 0, 8], [6, 8, 0]], atol=1e-6)
    same = jnp.asarray(np.random.default_rng(0).normal(size=(200, 5, 3)), jnp.float32)
    means = invariance.mean_distances(same, jnp.ones((200, 5), bool))
    pairs = np.triu_indices(200, 1)
    # With a member's distance to itself among the means it would be 2 / 5 of a distance of 2.3.
    assert abs(np.asarray(invariance.energy_distances(means))[pairs].mean()) < 0.1


def p_values(x, y, keep=None, permutations=199):
    keep = np.ones(x.shape[:2], bool) if keep is None else keep
    members = np.tile(np.arange(2 * x.shape[1]), (permutations, 1))
    place = np.random.default_rng(0).permuted(members, axis=1)
    test = jax.vmap(invariance.energy_test, in_axes=(0, 0, 0, 0, None))
    return np.asarray(test(*map(jnp.asarray, (x, y, keep, keep)), place))


def test_p_values_are_uniform_without_a_difference_and_small_with_one():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 400, 12, 3))
    p = p_values(x, y)
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert p.mean() == pytest.approx(0.5, abs=0.05)
    assert (p_values(x, y + 2)[:20] == 1 / 200).all()
    assert (p_values(x, 3 * y) <= 0.05).mean() > 0.5  # a scale shows as well as a mean


def test_p_value_by_hand():
    """{0, 1} and {5, 6}: of three divisions only the exchange of both is as far apart."""
    x, y = jnp.array([[0.0], [1.0]]), jnp.array([[5.0], [6.0]])
    place = jnp.array([[0, 2, 1, 3], [2, 3, 0, 1], [0, 3, 1, 2]])
    keep = jnp.ones(2, bool)
    assert invariance.energy_test(x, y, keep, keep, place) == 2 / 4


def test_equal_codes_do_not_differ():
    """Rounding decides among equal distances; it must not look like a difference."""
    x = np.broadcast_to(np.float32([0.1, 0.7]), (1, 16, 2))
    assert p_values(x, x) == 1


def test_p_value_ignores_what_does_not_count():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 300, 10, 2))
    keep = np.broadcast_to(np.arange(10) < 7, (300, 10))
    spoiled = np.where(keep[..., None], x, 1e3)
    p = p_values(spoiled, y, keep)
    np.testing.assert_array_equal(p, p_values(x, y, keep))
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert np.isnan(p_values(x, y, np.zeros((300, 10), bool))).all()
