"""How similar two models' codes of the same windows are, up to a change of basis, in NumPy."""

import numpy as np


def procrustes_residual(x: np.ndarray, y: np.ndarray) -> float:
    """The share of y that no rotation, reflection and scaling of x explains.

    `min_{s, Q} |s X Q - Y|^2 / |Y|^2` over scales s and orthogonal Q, with centred X and Y. It is
    `1 - (sum of the singular values of X'Y)^2 / (|X|^2 |Y|^2)`, symmetric in x and y. Schönemann
    1966, "A generalized solution of the orthogonal Procrustes problem" (Psychometrika 31, 1-10);
    the scale as in Schönemann & Carroll 1970 (Psychometrika 35, 245-255).

    Args:
        x: [R, Z] codes of R windows.
        y: [R, Y] codes of the same windows; the narrower of both is filled with zeros.

    Returns:
        From 0, the same up to such a map, to 1; NaN where one of them is constant.

    >>> x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> turned = 5 + 3 * x[:, ::-1] * [1, -1]
    >>> round(procrustes_residual(x, turned), 6)
    0.0
    """
    x, y = _centred(x), _centred(y)
    size = (x**2).sum() * (y**2).sum()
    nuclear = np.linalg.svd(x.T @ y, compute_uv=False).sum()
    # Rounding must not make it negative.
    return float(max(1 - nuclear**2 / size, 0)) if size > 0 else float("nan")


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Centred kernel alignment with linear kernels.

    `|Y'X|_F^2 / (|X'X|_F |Y'Y|_F)` with centred X and Y. Not changed by a rotation or scaling of
    either; directions of large variance weigh most. Kornblith et al. 2019, "Similarity of Neural
    Network Representations Revisited" (arXiv 1905.00414), section 3.

    Args:
        x: [R, Z].
        y: [R, Y], of the same rows.

    Returns:
        From 0 to 1, the same up to rotation and scale; NaN where one of them is constant.

    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(linear_cka(x, x[:, :1]), 6)  # 2^2 / (sqrt(2^2 + 2^2) * 2)
    0.707107
    """
    x, y = _centred(x), _centred(y)
    size = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.sum((y.T @ x) ** 2) / size) if size > 0 else float("nan")


def _centred(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, float)
    return x - x.mean(0)
