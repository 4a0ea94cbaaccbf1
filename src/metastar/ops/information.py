"""How much a code tells of its source beyond the task: I(z; source | task), from below.

N tasks, K sources, W windows of each; Z task code. A *cell* is one task with one source.
"""

import numpy as np
from scipy.special import log_softmax

RIDGE = 1e-3  # on a covariance's diagonal, as a share of its mean variance
EXPONENTS = np.append(0, np.geomspace(1e-3, 1, 31))  # of q; 0 guesses by chance
SHARES = np.array([1e-3, 1e-2, 1e-1])  # of a guess by chance that is mixed into q


def source_information(
    code: np.ndarray, keep: np.ndarray, cells: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """A lower bound of each task's I(z; source), with all its sources equally likely.

        I(z; s | n) >= log K_n + E log q(s | z, n)

    for any q (Barber & Agakov 2003, "The IM algorithm", equation 3), estimated on windows that q
    was not fitted to. q compares Gaussians: the mean of each cell, by one half of its windows, and
    the covariance of each source, over all tasks. Its logarithms are multiplied by one exponent in
    [0, 1], so that cells whose halves differ by chance make q cautious and not wrong: without
    information the bound is about 0. A share of q is a guess by chance, so that a few windows
    unlike all others of their cell do not undo it. Exponent and share are the best on the tasks of
    other folds. Both halves take their turn.

    Args:
        code: [N, K, W, Z]; the two halves of a cell's windows are of different episodes.
        keep: [N, K, W] bool: which windows count.
        cells: [N, K] bool: which cells count, each with windows in both halves; at least two in
            every task.
        fold: [N] int in [0, J), J > 1.

    Returns:
        [N] nats, at most log K_n.
    """
    halves = list(zip(np.split(code.astype(float), 2, 2), np.split(keep, 2, 2)))
    cost = np.mean([_costs(*fit, *held_out, cells) for fit, held_out in (halves, halves[::-1])], 0)
    by_fold = [cost[fold != j].mean(0).argmin() for j in range(fold.max() + 1)]
    own = cost[np.arange(len(cost)), np.array(by_fold)[fold]]
    return np.log(cells.sum(1)) - own


def _costs(fit, fit_keep, code, keep, cells) -> np.ndarray:
    """Mean negative log-likelihood of the sources of one half's codes, [N, exponents * shares]."""
    mean, precision, log_det = _gaussians(fit, fit_keep, cells)
    away = code[:, :, :, None] - mean[:, None, None]  # [N, K true, W, K asked, Z]
    distance = np.einsum("nkwaz,azy,nkway->nkwa", away, precision, away)
    logit, asked = -(distance + log_det) / 2, cells[:, None, None]
    count = keep.sum(-1) * cells
    weight = cells / cells.sum(1, keepdims=True) / np.maximum(count, 1)
    weight = weight[..., None] * keep  # [N, K true, W]: the cells of a task weigh alike

    chance = np.where(cells, -np.log(cells.sum(1, keepdims=True)), 0)  # [N, K true]

    def costs(exponent):
        log_q = log_softmax(np.where(asked, exponent * logit, -np.inf), axis=-1)
        right = np.einsum("nkwk->nkw", log_q)[..., None]
        mixed = np.logaddexp(np.log1p(-SHARES) + right, np.log(SHARES) + chance[..., None, None])
        return -(weight[..., None] * np.where(weight[..., None] > 0, mixed, 0)).sum((1, 2))

    return np.concatenate([costs(exponent) for exponent in EXPONENTS], -1)


def _gaussians(code, keep, cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean [N, K, Z] of each cell; inverse [K, Z, Z] and log-determinant [K] of the covariances."""
    keep = (keep & cells[..., None])[..., None]
    count = keep.sum((2, 3))
    mean = np.where(keep, code, 0).sum(2) / np.maximum(count, 1)[..., None]
    away = np.where(keep, code - mean[:, :, None], 0)
    freedom = np.maximum((count - cells).sum(0), 1)
    covariance = np.einsum("nkwz,nkwy->kzy", away, away) / freedom[:, None, None]
    size = code.shape[-1]
    scale = np.trace(covariance, axis1=1, axis2=2) / size
    scale = np.where(scale > 0, scale, max(scale.max(), 1e-30))
    covariance += RIDGE * scale[:, None, None] * np.eye(size)
    return mean, np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
