"""Laws of task parameters over unions of intervals."""

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
