"""Importances by boosted trees and information by neighbours: what needs scikit-learn.

As in SPC's code (arXiv 2603.02935). R rows, Z dimensions of the code, F continuous factors. Without
scikit-learn, which the extra `analysis` installs, only `installed` can be called.
"""

from importlib.util import find_spec

import numpy as np

ABSENT = "scikit-learn is not installed; pip install 'metastar-jax[analysis]'"
_TREES = 100


def installed() -> bool:
    """Whether the other functions can be called."""
    return find_spec("sklearn") is not None


def importance(code: np.ndarray, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much each dimension of a code takes part in predicting each factor.

    By 100 boosted trees for a factor. Ties between dimensions are broken at random, from a seed, so
    that other versions of scikit-learn may differ by some thousandths.

    Args:
        code: [R, Z].
        factor: [R, F].

    Returns:
        [Z, F] with columns that sum to 1, 0 of a factor that never changes; and the R² [F] on the
        same rows.
    """
    fitted = [_fit(code, column) for column in factor.T]
    explained = [trees.score(code, column) for trees, column in zip(fitted, factor.T)]
    return np.stack([trees.feature_importances_ for trees in fitted], 1), np.array(explained)


def explained_of_held_out(code: np.ndarray, factor: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """R² [F] about the mean of the same trees, on rows whose fold [R] they were not fitted to."""
    predicted = np.zeros(factor.shape)
    for k in np.unique(fold):
        rest = fold != k
        for j, column in enumerate(factor.T):
            predicted[~rest, j] = _fit(code[rest], column[rest]).predict(code[~rest])
    spread = ((factor - factor.mean(0)) ** 2).sum(0)
    return 1 - ((factor - predicted) ** 2).sum(0) / spread


def neighbor_information(code: np.ndarray, factor: np.ndarray, neighbors: int = 3) -> np.ndarray:
    """Mutual information [Z, F] of columns in nats, by nearest neighbours; SPC takes three.

    Kraskov et al. 2004, "Estimating mutual information" (arXiv cond-mat/0305641).
    """
    from sklearn.feature_selection import mutual_info_regression

    spread = code.std(0)
    x = (code - code.mean(0)) / np.where(spread > 0, spread, 1)
    found = [
        mutual_info_regression(x, column, n_neighbors=neighbors, random_state=0)
        for column in factor.T
    ]
    return np.stack(found, 1)


def _fit(code, column):
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=_TREES, random_state=0).fit(code, column)
