"""Averages of returns with honest intervals, in NumPy.

A *stratum* is one task's scores, one number per independent unit (a context window or a stream
of episodes). A statistic maps a list of strata `[..., n_i]` to `[...]`, so that it takes one sample
and a whole batch of resampled ones alike. Source: Agarwal et al. 2021, "Deep Reinforcement Learning
at the Edge of the Statistical Precipice" (arXiv 2108.13264), section 4.
"""

from collections.abc import Callable, Sequence

import numpy as np

Strata = Sequence[np.ndarray]


def mean(strata: Strata) -> np.ndarray:
    """Mean over tasks of each task's mean: every task weighs alike, however many scores it has."""
    return np.mean([np.mean(x, axis=-1) for x in strata], axis=0)


def iqm(strata: Strata) -> np.ndarray:
    """Interquartile mean of all scores together: the mean of the middle half.

    Of `n` sorted scores `floor(n / 4)` are dropped at each end; what outliers do does not show.
    """
    pooled = np.sort(np.concatenate(strata, axis=-1), axis=-1)
    cut = pooled.shape[-1] // 4
    return pooled[..., cut : pooled.shape[-1] - cut].mean(-1)


def bootstrap_interval(
    strata: Strata,
    statistic: Callable[[Strata], np.ndarray] = mean,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `statistic` by the bootstrap stratified over tasks.

    Each task's scores are resampled with replacement within that task, so the interval speaks of
    the average over these very tasks, not over tasks that were never drawn.

    Args:
        strata: one array of scores `[n_i]` per task, none of them empty.
        statistic: `mean` or `iqm`, or any function of the same form.
        level: coverage, e.g. 0.95.
        num_resamples: bootstrap samples.
        seed: of NumPy's generator; the same scores give the same interval.

    Returns:
        The lower and the upper end, in the units of the scores.
    """
    rng = np.random.default_rng(seed)
    resampled = [x[rng.integers(len(x), size=(num_resamples, len(x)))] for x in strata]
    tail = 50 * (1 - level)
    low, high = np.percentile(statistic(resampled), [tail, 100 - tail])
    return float(low), float(high)
