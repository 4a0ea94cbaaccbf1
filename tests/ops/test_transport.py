import itertools

import numpy as np
import pytest

from metastar.ops.transport import wasserstein


@pytest.mark.parametrize(
    "x, y, square",
    [
        ([[0]], [[3]], 9),
        ([[0], [10]], [[10], [0]], 0),  # order does not matter
        ([[0], [1]], [[2], [0]], 0.5),  # 0 -> 0, 1 -> 2, not 1 -> 0, 0 -> 2: (0 + 1) / 2
        ([[5], [1], [3]], [[4], [9], [2]], (1 + 1 + 16) / 3),  # sorted: 1-2, 3-4, 5-9
        ([[0, 0], [3, 0]], [[3, 4], [0, 4]], 16),  # straight up, not across
        # Greedy matching would pair 1 with 1.1 and then send 0 to 2.1.
        ([[0], [1]], [[1.1], [2.1]], 1.1**2),
    ],
)
def test_by_hand(x, y, square):
    x, y = np.array(x, float), np.array(y, float)
    assert wasserstein(x, y) == pytest.approx(np.sqrt(square))


def test_equals_the_best_of_all_permutations():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    costs = [((x - y[list(s)]) ** 2).sum(-1).mean() for s in itertools.permutations(range(5))]
    assert wasserstein(x, y) == pytest.approx(np.sqrt(min(costs)))


def test_a_shift_costs_its_length_and_no_more():
    x = np.random.default_rng(1).normal(size=(40, 3))
    assert wasserstein(x, x + np.array([2, -3, 6])) == pytest.approx(7)


def test_symmetric_zero_on_itself_and_homogeneous():
    x, y = np.random.default_rng(2).normal(size=(2, 30, 4))
    assert wasserstein(x, y) == pytest.approx(wasserstein(y, x))
    assert wasserstein(x, x[::-1]) == 0
    assert wasserstein(3 * x, 3 * y) == pytest.approx(3 * wasserstein(x, y))


def test_samples_of_one_distribution_come_closer_as_they_grow():
    rng = np.random.default_rng(3)
    small, large = (wasserstein(*rng.normal(size=(2, n, 2))) for n in (8, 512))
    assert 0 < large < small


@pytest.mark.parametrize("shape", [(3, 2), (4, 3), (4,)])
def test_shapes_must_agree(shape):
    with pytest.raises(ValueError, match="one shape"):
        wasserstein(np.zeros((4, 2)), np.zeros(shape))
