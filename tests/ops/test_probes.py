import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.ops import probes


def cells(num_tasks=12, sources=3, windows=10, dim=5, seed=0):
    x = np.random.default_rng(seed).normal(size=(num_tasks, sources, windows, dim))
    return x, np.ones(x.shape[:-1], bool)


def labels(keep, sets=1):
    return np.broadcast_to(np.arange(keep.shape[1]), (sets, *keep.shape[:2]))


def test_folds_hold_every_task_out_once():
    fold = probes.folds(7)
    assert fold.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert probes.folds(3).tolist() == [0, 1, 2]


def test_standardize_uses_the_rows_that_count():
    x = np.array([[1.0, 5.0, 2.0], [3.0, 5.0, 2.0], [99.0, 99.0, np.nan]])
    found = probes.standardize(x, np.array([True, True, False]))
    np.testing.assert_allclose(found, [[-1, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert not probes.standardize(1e-7 * x[:2], np.ones(2, bool), floor=1e-5).any()


def test_ridge_equals_the_normal_equations_of_the_other_tasks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 6, 2)), rng.normal(size=(4, 6, 1))
    keep = rng.random((4, 6)) < 0.8
    fold = np.array([0, 1, 0, 1])
    found = probes.ridge_weights(x, y, keep, fold)
    rows = keep[[1, 3]]
    a, b = probes.with_one(x[[1, 3]][rows]), y[[1, 3]][rows]
    penalty = probes.RIDGE * len(a) * np.diag([1, 1, 0])
    expected = np.linalg.solve(a.T @ a + penalty, a.T @ b)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_ridge_finds_a_known_map_for_each_source_apart():
    x, keep = cells()
    slope = np.random.default_rng(1).normal(size=(3, 5, 2))
    y = np.einsum("nkwz,kzf->nkwf", x, slope) + 3
    found = probes.ridge_weights(x, y, keep, probes.folds(12))
    np.testing.assert_allclose(found[:, :, :5], np.broadcast_to(slope, (5, 3, 5, 2)), atol=0.02)
    np.testing.assert_allclose(found[:, :, 5], 3, atol=0.02)


def test_linear_classes_by_hand():
    """Means -1 and 1 on a line: the boundary is 0, and a fold's own tasks have no say in it."""
    x = np.array([[[-1.5, -0.5], [0.5, 1.5]]] * 3)[..., None]
    x[0] += [[[0.8]], [[0.8]]]  # task 0 moved: its own windows at -0.7, 0.3, 1.3 and 2.3
    keep = np.ones((3, 2, 2), bool)
    guess = probes.linear_classes(x, keep, labels(keep), 2, np.array([0, 1, 1]))
    assert guess[0, 0].tolist() == [[0, 1], [1, 1]]
    np.testing.assert_allclose(probes.accuracy(guess, labels(keep), keep)[0, 0], 0.75)


def test_linear_classes_of_three_on_a_line_are_told_apart():
    """Regression on indicators would mask the middle one."""
    x, keep = cells(dim=1)
    x = 0.1 * x + np.array([-1.0, 0, 1])[:, None, None]
    guess = probes.linear_classes(x, keep, labels(keep), 3, probes.folds(12))
    assert probes.accuracy(guess, labels(keep), keep).min() > 0.99


def test_a_leak_is_read_with_the_accuracy_of_the_best_guess():
    """Two sources 2 d apart in noise of 1: the best possible accuracy is Phi(d)."""
    x, keep = cells(num_tasks=30, sources=2, windows=50)
    x[:, 1, :, 0] += 2.0
    guess = probes.linear_classes(x, keep, labels(keep), 2, probes.folds(30))
    assert probes.accuracy(guess, labels(keep), keep).mean() == pytest.approx(0.8413, abs=0.02)
    x, keep = cells(num_tasks=30, sources=2, windows=50)
    guess = probes.linear_classes(x, keep, labels(keep), 2, probes.folds(30))
    assert probes.accuracy(guess, labels(keep), keep).mean() == pytest.approx(0.5, abs=0.03)


def test_a_class_without_windows_is_never_taken():
    x, keep = cells()
    keep[:, 2] = False
    guess = probes.linear_classes(x, keep, labels(keep), 3, probes.folds(12))
    assert set(guess.ravel()) == {0, 1}
    assert np.isfinite(probes.accuracy(guess, labels(keep), keep)).all()


def test_accuracy_weighs_cells_alike():
    keep = np.array([[[True, False, False, False], [True, True, True, True]]])
    guess = np.array([[[[0, 0, 0, 0], [1, 0, 0, 0]]]])
    assert probes.accuracy(guess, labels(keep), keep).tolist() == [[(1 + 0.25) / 2]]


def test_mlp_solves_what_no_line_can_and_sees_no_held_out_task():
    rng = np.random.default_rng(0)
    x = np.sign(rng.normal(size=(10, 12, 2))) + 0.2 * rng.normal(size=(10, 12, 2))
    right = (x[..., 0] * x[..., 1] > 0).astype(int)
    wrong = right.copy()
    wrong[0] = 1 - wrong[0]  # the labels of task 0 lie, which its own predictions do not learn
    y = np.eye(2)[np.stack([right, wrong])]
    fold, keep = jnp.asarray(probes.folds(10)), jnp.ones((10, 12), bool)
    found = probes.mlp_predictions(
        jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), keep, fold, jax.random.key(0),
        classify=True, num_folds=5,
    )  # fmt: skip
    guess = np.asarray(found).argmax(-1)
    assert (guess == right).mean(axis=(1, 2)).min() > 0.95
    assert (guess[:, 0] == right[0]).mean() > 0.9


def test_mlp_regression():
    x = np.random.default_rng(0).normal(size=(10, 20, 1)).astype(np.float32)
    y = np.abs(x)[None]
    keep = jnp.ones((10, 20), bool)
    found = probes.mlp_predictions(
        jnp.asarray(x), jnp.asarray(y), keep, jnp.asarray(probes.folds(10)), jax.random.key(0),
        classify=False, num_folds=5,
    )  # fmt: skip
    assert np.mean((np.asarray(found) - y) ** 2) < 0.05 * y.var()
