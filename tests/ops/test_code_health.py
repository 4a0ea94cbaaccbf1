import numpy as np
import pytest

from metastar.ops import code_health


def test_effective_rank_by_hand():
    """Singular values 3 and 1 after centring: p = 3/4, 1/4."""
    code = np.array([[8.0, 2], [2, 2], [5, 3], [5, 1]])
    expected = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert code_health.effective_rank(code) == pytest.approx(expected)


@pytest.mark.parametrize(
    "code, rank", [(np.ones((4, 3)), 0), (np.arange(6.0)[:, None] * [1, 2], 1)]
)
def test_effective_rank_of_points_and_lines(code, rank):
    assert code_health.effective_rank(code) == pytest.approx(rank)


def test_dormant_dimensions_by_hand():
    """Deviations 1, 1, 0.04 and 0 have the mean 0.51: below 2.5 % of it is the last one only."""
    code = np.array([[1.0, 1, 0.04, 3], [-1, -1, -0.04, 3]])
    assert code_health.dormant_share(code) == 0.25
    assert code_health.dormant_share(code, threshold=0.1) == 0.5
    assert code_health.dormant_share(np.ones((3, 2))) == 1


def test_disentanglement_by_hand():
    """Dimension 0 serves both factors alike (0), dimension 1 the second only (1), at equal weight.

    Factor 0 has one dimension (1); factor 1 has shares 1/3 and 2/3.
    """
    single, whole = code_health.disentanglement(np.array([[1.0, 1.0], [0.0, 2.0]]))
    entropy = -(np.log(1 / 3) / 3 + 2 * np.log(2 / 3) / 3) / np.log(2)
    assert single == pytest.approx(0.5)
    assert whole == pytest.approx((1 + 1 - entropy) / 2)


def test_a_dimension_without_importance_does_not_count():
    importance = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert code_health.disentanglement(importance) == (1.0, 1.0)
