import numpy as np
import pytest

from metastar.ops import infomec

RNG = np.random.default_rng(0)
FACTOR = RNG.uniform(-1, 1, (4000, 2))


def told_by(code, bins=8):
    return infomec.normalized_information(
        infomec.quantized(code, bins), infomec.quantized(FACTOR, 4)
    )


def test_mutual_information_by_hand():
    """Joint frequencies 3/8, 1/8, 1/8, 3/8."""
    a = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    b = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    expected = 0.75 * np.log(0.375 / 0.25) + 0.25 * np.log(0.125 / 0.25)
    assert infomec.mutual_information(a, b) == pytest.approx(expected)
    own = np.array([0, 1, 2, 3] * 2)
    assert infomec.mutual_information(own, own) == pytest.approx(np.log(4))


def test_bins_are_equally_frequent_and_ties_share_one():
    counts = np.bincount(infomec.quantized(FACTOR, 5)[:, 0])
    np.testing.assert_array_equal(counts, [800] * 5)
    flag = infomec.quantized(np.repeat([0.0, 1.0], 50)[:, None], 4)
    assert len(np.unique(flag)) == 2
    assert np.unique(infomec.quantized(np.ones((7, 1)), 4)).size == 1


def test_information_is_relative_to_the_factor():
    """A dimension that halves a factor of four bins tells log 2 of log 4."""
    found = told_by(np.stack([FACTOR[:, 0], (FACTOR[:, 0] > np.median(FACTOR[:, 0]))], 1), 4)
    np.testing.assert_allclose(found[:, 0], [1, 0.5], atol=1e-3)
    assert (found[:, 1] < 0.01).all()


def test_modularity_and_compactness_by_hand():
    """Shares of the largest: rows 0.9 and 0.5; columns 0.9 / 1.4 and 0.5 / 0.6."""
    told = np.array([[0.9, 0.1], [0.5, 0.5]])
    assert infomec.modularity(told) == pytest.approx((0.9 + 0.5) / 2 * 2 - 1)
    assert infomec.compactness(told) == pytest.approx((0.9 / 1.4 + 0.5 / 0.6) / 2 * 2 - 1)
    three = np.array([[1.0, 0.0, 0.0], [0.2, 0.2, 0.2]])
    assert infomec.modularity(three) == pytest.approx((2 / 3 - 1 / 3) / (2 / 3))


def test_dimensions_that_tell_nothing_do_not_count():
    assert infomec.modularity(np.array([[0.4, 0.0], [0.0, 0.0]])) == 1
    assert np.isnan(infomec.modularity(np.zeros((3, 2))))
    assert np.isnan(infomec.compactness(np.ones((1, 2))))
    code = np.stack([FACTOR[:, 0], 0.04 * FACTOR[:, 1]], 1)
    assert infomec.active(code).tolist() == [True, False]


def test_a_code_of_one_factor_each_passes_and_its_rotation_does_not():
    turn = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)
    for code, low, high in ((FACTOR, 0.97, 1.0), (FACTOR @ turn, -0.01, 0.1)):
        told = told_by(code)
        assert low <= infomec.modularity(told) <= high
        assert low <= infomec.compactness(told) <= high


def test_a_factor_told_twice_is_modular_and_not_compact():
    told = told_by(FACTOR[:, [0, 1, 0, 1]])
    assert infomec.modularity(told) > 0.97
    assert infomec.compactness(told) == pytest.approx((1 / 2 - 1 / 4) / (3 / 4), abs=0.02)


def test_explicitness_by_hand():
    """One factor is known but for a quarter of its variance, of the other nothing is."""
    assert infomec.explicitness(np.array([1.0, 3.0]), np.array([4.0, 3.0])) == 0.375
    assert infomec.explicitness(np.array([6.0]), np.array([3.0])) == -1
