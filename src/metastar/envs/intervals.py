"""Laws of task parameters over unions of intervals and over square rings."""

from collections.abc import Sequence

import numpy as np


def draw(
    rng: np.random.Generator, num: int, intervals: Sequence[tuple[float, float]]
) -> np.ndarray:
    """Draws `num` numbers, uniform over a union of disjoint intervals: float64 [num].

    >>> x = draw(np.random.default_rng(0), 1000, [(0, 1), (5, 6)])
    >>> bool(((x < 1) | (x >= 5)).all()), bool((x < 1).any())
    (True, True)
    """
    low, high = np.array(intervals, float).T
    place = rng.uniform(0, (high - low).sum(), num)
    ends = np.cumsum(high - low)
    which = np.searchsorted(ends, place, side="right")
    return high[which] - (ends[which] - place)


def draw_ring(rng: np.random.Generator, num: int, low: float, high: float) -> np.ndarray:
    """Draws `num` points, uniform over a square ring around the origin: float64 [num, 2].

    The ring between half widths a and b holds the points with `a <= max(|x|, |y|) < b`. A square of
    half width h has an area proportional to h^2, so h^2 is drawn uniformly; on the edge of that
    square one coordinate is +-h and the other uniform.
    """
    half_width = np.sqrt(rng.uniform(low**2, high**2, num))
    along = rng.uniform(-1, 1, num)
    side = rng.integers(0, 4, num)
    edge = np.where(side % 2, -1.0, 1.0)
    pair = np.where((side < 2)[:, None], np.stack([edge, along], -1), np.stack([along, edge], -1))
    return half_width[:, None] * pair
