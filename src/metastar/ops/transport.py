"""Optimal transport between samples, in NumPy: how far apart two distributions are."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


def wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    """2-Wasserstein distance of two samples of one size, exactly.

    `W_2 = (min_s 1/n sum_i |x_i - y_s(i)|^2)^(1/2)` over the permutations s: between uniform
    weights on n points each, the best transport plan is an assignment. Peyré & Cuturi 2019,
    "Computational Optimal Transport" (arXiv 1803.00567), propositions 2.1 and 2.2.

    Two samples of one distribution are not at distance 0: what they show is the error of sampling,
    which shrinks slowly with n, the more slowly the larger D. The time grows as n^3.

    Args:
        x: [n, D], n > 0.
        y: [n, D].

    Returns:
        The distance, in the units of the columns.

    Raises:
        ValueError: the shapes differ.

    >>> wasserstein(np.array([[0.0], [1.0]]), np.array([[4.0], [3.0]]))
    3.0
    """
    if np.ndim(x) != 2 or np.shape(x) != np.shape(y):
        raise ValueError(f"two samples [n, D] of one shape needed, not {x.shape} and {y.shape}")
    cost = cdist(x, y, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))
