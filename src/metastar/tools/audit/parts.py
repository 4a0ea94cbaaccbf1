"""What the parts of an audit share: absent numbers, averages over cells, a bootstrap over tasks."""

import numpy as np

MIN_TASKS = 4  # for a probe, which holds whole tasks out
RESAMPLES = 2000  # of the bootstrap
TINY = 1e-5  # of a code's scale: what is smaller is rounding


def missing(reason: str) -> dict:
    """A part of the audit that cannot be computed."""
    return {"not_computed": reason}


def too_few(num: int) -> str:
    """Why there is no probe."""
    return f"a probe needs {MIN_TASKS} tasks, and there are {num}"


def number(x: float) -> float | None:
    """A number that JSON can hold; None if it is not finite."""
    return float(x) if np.isfinite(x) else None


def matrix(value: np.ndarray) -> list:
    """Rows of a matrix; None where it is not finite."""
    return [[number(x) for x in row] for row in value]


def resampled(num: int) -> np.ndarray:
    """How often each of `num` tasks is drawn in each of `RESAMPLES` bootstrap samples."""
    return np.random.default_rng(0).multinomial(num, np.full(num, 1 / num), RESAMPLES)


def task_means(x: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Mean [N, D] of each task's cell means, over x [N, K, W, D]."""
    count, cells = keep.sum(-1), keep.any(-1).sum(-1)
    mean = np.where(keep[..., None], x, 0).sum(2, dtype=float) / np.maximum(count, 1)[..., None]
    return mean.sum(1) / np.maximum(cells, 1)[:, None]
