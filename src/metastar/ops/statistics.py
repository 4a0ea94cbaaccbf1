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

    Of `n` sorted scores `floor(n / 4)` are dropped at each end, so that outliers have no effect.
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

    Each task's scores are resampled with replacement within that task, so the interval is for the
    average over exactly these tasks, not over other tasks.

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
    return percentile_interval(statistic(resampled), level)


def seed_task_means(
    groups: Sequence[np.ndarray], num_resamples: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Bootstrap means of groups of runs that were scored on the same tasks.

    Each resample draws tasks, and for each group its seeds, with replacement; its mean is over all
    pairs of a drawn seed and a drawn task. Seeds and tasks are crossed, since every seed meets the
    same tasks: a task that is drawn twice counts twice for every seed. All groups share the tasks
    of a resample, so differences and ratios of groups are paired by task. Source: Owen 2007, "The
    pigeonhole bootstrap" (Annals of Applied Statistics 1, 386-411), whose intervals are, if
    anything, too wide; but no bootstrap over few seeds sees all that seeds can do.

    Args:
        groups: scores [S_g, N] of S_g seeds on N tasks, all finite.
        num_resamples: B, bootstrap samples.
        seed: of NumPy's generator; the same scores give the same means.

    Returns:
        [G, B], in the units of the scores.
    """
    rng = np.random.default_rng(seed)

    def draw(num):
        """How often [B, num] each of `num` entries is drawn, with replacement, in `num` draws."""
        return rng.multinomial(num, np.full(num, 1 / num), num_resamples)

    tasks = draw(groups[0].shape[1])
    return np.stack([((draw(len(x)) @ x) * tasks).sum(-1) / x.size for x in groups])


def seed_task_interval(
    scores: np.ndarray, level: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean over seeds and tasks, by `seed_task_means`.

    With one seed it is the bootstrap over tasks, and says nothing about other seeds.

    Args:
        scores: [S, N] score of seed s on task n, all finite.
        level: coverage, e.g. 0.95.
        num_resamples: bootstrap samples.
        seed: of NumPy's generator; the same scores give the same interval.

    Returns:
        The lower and the upper end, in the units of the scores.

    >>> seed_task_interval(np.full((3, 8), 2.0))
    (2.0, 2.0)
    """
    return percentile_interval(seed_task_means([scores], num_resamples, seed)[0], level)


def largest_drop(values: Sequence[float]) -> float:
    """The largest fall from one of `values`, in time order, to a later one: `max_{i<=j} x_i - x_j`.

    0 where they never fall: a rise does not count.

    >>> largest_drop([3.0, 5.0, 4.0, 6.0, 4.5])
    1.5
    """
    values = np.asarray(values, float)
    return float((np.maximum.accumulate(values) - values).max())


def percentile_interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentiles of bootstrap samples [B] that leave `1 - level` out, half on each side.

    >>> percentile_interval(np.arange(101.0), level=0.5)
    (25.0, 75.0)
    """
    tail = 50 * (1 - level)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)
