import numpy as np
import pytest

from metastar.ops.alignment import linear_cka, procrustes_residual


def rotation(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def test_rotation_scale_and_shift_leave_no_residual():
    x = np.random.default_rng(0).normal(size=(50, 4))
    y = -2.5 * x @ rotation(4) + [1.0, 0, 7, -3]
    assert procrustes_residual(x, y) == pytest.approx(0, abs=1e-12)
    assert linear_cka(x, y) == pytest.approx(1)


def test_procrustes_by_hand():
    """X = (1, -1), Y = (1, -1, 0, 0) on orthogonal rows: X'Y has the one singular value 0."""
    x = np.array([[1.0], [-1.0], [0.0], [0.0]])
    y = np.array([[0.0], [0.0], [1.0], [-1.0]])
    assert procrustes_residual(x, y) == 1
    half = np.array([[1.0], [-1.0], [1.0], [-1.0]])  # (1 * 1 + 1 * 1)^2 / (2 * 4) is explained
    assert procrustes_residual(x, half) == pytest.approx(0.5)
    assert procrustes_residual(half, x) == pytest.approx(0.5)


def test_procrustes_is_the_least_over_rotations_and_scales():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 30, 2))
    x, y = x - x.mean(0), y - y.mean(0)
    least = np.inf
    for angle in np.linspace(0, 2 * np.pi, 721):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for q in (turn, turn * [1, -1]):
            image = x @ q
            scale = (image * y).sum() / (image**2).sum()
            least = min(least, ((scale * image - y) ** 2).sum() / (y**2).sum())
    assert procrustes_residual(x, y) == pytest.approx(least, abs=1e-4)


def test_known_share_of_noise():
    """Half of the variance of y is noise that x does not have."""
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=(2, 20_000, 3))
    y = (x + noise) @ rotation(3)
    assert procrustes_residual(x, y) == pytest.approx(0.5, abs=0.02)
    assert linear_cka(x, y) == pytest.approx(0.5, abs=0.02)  # 3 / (sqrt(3) * 2 sqrt(3))


def test_widths_may_differ():
    x = np.random.default_rng(3).normal(size=(40, 3))
    padded = np.concatenate([x, np.zeros((40, 2))], 1)
    assert procrustes_residual(x, padded @ rotation(5)) == pytest.approx(0, abs=1e-12)
    assert linear_cka(x, padded @ rotation(5)) == pytest.approx(1)


def test_constant_codes_have_no_answer():
    x = np.random.default_rng(0).normal(size=(5, 2))
    assert np.isnan(procrustes_residual(x, np.ones((5, 2))))
    assert np.isnan(linear_cka(x, np.ones((5, 2))))
