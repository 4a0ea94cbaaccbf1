"""Scores of representations in the forms of SPC's code (arXiv 2603.02935), for comparison with it.

`ops/code_health.py` and `ops/infomec.py` have the forms that their authors published. N rows, Z
dimensions, F factors. NumPy, in double precision.
"""

import numpy as np

_EPSILON = 1e-8


def feature_rank(x: np.ndarray, threshold: float = 0.01) -> int:
    """How many singular values of `x / sqrt(N)`, x [N, Z], exceed the threshold.

    Lyle et al. 2022, "Understanding and Preventing Capacity Loss" (arXiv 2204.09560), section 4.

    >>> feature_rank(np.array([[1.0, 0.0], [-1.0, 0.001]]))
    1
    """
    size = np.linalg.svd(np.asarray(x, float), compute_uv=False)
    return int((size > threshold * np.sqrt(len(x))).sum())


def matrix_rank(x: np.ndarray, tolerance: float = 0.01) -> int:
    """How many singular values exceed the tolerance, also relative to the largest: x [N, Z].

    SPC's figure does not say which of 0.1, 0.01 and 0.001 it has.

    >>> matrix_rank(np.diag([10.0, 0.05]))
    1
    """
    size = np.linalg.svd(np.asarray(x, float), compute_uv=False)
    return int((size > max(tolerance, tolerance * size[0])).sum())


def dormant_ratio(x: np.ndarray, threshold: float = 0.025) -> float:
    """Share of dimensions with `E|x_i| <= threshold * mean_k E|x_k|`: x [N, Z].

    Sokar et al. 2023, "The Dormant Neuron Phenomenon" (arXiv 2302.12902), definition 3.1.

    >>> dormant_ratio(np.array([[0.0, 1.0], [0.0, -3.0]]))
    0.5
    """
    size = np.abs(np.asarray(x, float)).mean(0)
    return float((size / (size.mean() + 1e-9) <= threshold).mean())


def disentanglement(importance: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness of importances R [Z, F], Z > 1 and F > 1.

    As `code_health.disentanglement` with the two normalisations exchanged: entropies over factors
    are of columns that sum to one, those over dimensions of rows that do.

    >>> [round(x, 4) for x in disentanglement(np.eye(2))]
    [1.0, 1.0]
    """
    scores = []
    for r in (importance, importance.T):
        share = r / (r.sum(0, keepdims=True) + _EPSILON)
        score = 1 + (share * np.log(share + _EPSILON)).sum(1) / np.log(r.shape[1])
        scores.append(float(r.sum(1) @ score / (r.sum() + _EPSILON)))
    return scores[0], scores[1]


def modularity(information: np.ndarray) -> float:
    """Mean over dimensions of `max_j I_ij^2 / sum_j I_ij^2`, weighted by their share of all I.

    `information` [Z, F] in nats; always 1 for a single factor.

    >>> modularity(np.array([[1.0, 1.0], [2.0, 0.0]]))
    0.75
    """
    square, total = information**2, information.sum(1)
    known = total > 1e-10
    score = np.where(known, square.max(1) / np.where(known, square.sum(1), 1), 0)
    return float(total @ score / total.sum()) if total.sum() > 0 else 0.0


def compactness(information: np.ndarray) -> float:
    """Mean over factors of one less the relative entropy of each column of `information` [Z, F].

    >>> round(compactness(np.array([[1.0, 1.0], [0.0, 1.0]])), 6)
    0.5
    """
    share = information / (information.sum(0) + 1e-10)[None]
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(0)
    score = np.maximum(0, 1 - entropy / (np.log(len(information)) + 1e-10))
    return float(np.where(information.sum(0) > 1e-10, score, 0).mean())


def explicitness(code: np.ndarray, factor: np.ndarray, fold: np.ndarray) -> float:
    """Mean over factors of `(R^2 + 1) / 2`, clipped to [0, 1], of ridge regression on the code.

    R^2 is the mean over the folds of that on each fold, by weights from the others (penalty 1).

    Args:
        code: [N, Z], standardised here over all rows.
        factor: [N, F] continuous.
        fold: [N] int, the fold of each row.
    """
    spread = code.std(0)
    x = (code - code.mean(0)) / np.where(spread > 0, spread, 1)
    scores = []
    for k in np.unique(fold):
        fit, held = fold != k, fold == k
        centre, mean = x[fit].mean(0), factor[fit].mean(0)
        of = x[fit] - centre
        weights = np.linalg.solve(of.T @ of + np.eye(x.shape[1]), of.T @ (factor[fit] - mean))
        miss = factor[held] - mean - (x[held] - centre) @ weights
        deviation = factor[held] - factor[held].mean(0)
        scores.append(1 - (miss**2).sum(0) / (deviation**2).sum(0))
    return float(np.clip((np.mean(scores, 0) + 1) / 2, 0, 1).mean())
