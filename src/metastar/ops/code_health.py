"""The state of a code: its scale, how many dimensions it uses, and which factor each encodes."""

import numpy as np


def rms_norm(code: np.ndarray) -> float:
    """Root of the mean squared length of the rows of `code` [R, Z].

    >>> rms_norm(np.array([[3.0, 4.0], [0.0, 0.0]]))
    3.5355339059327378
    """
    return float(np.sqrt((np.asarray(code, float) ** 2).sum(-1).mean()))


def effective_rank(code: np.ndarray) -> float:
    """How many directions the codes spread over.

    `exp(-sum_i p_i log p_i)` with `p_i = s_i / sum_j s_j`, the singular values of the centred
    codes. From 1, a line, to Z, the same spread in every direction; 0 for equal codes. Roy &
    Vetterli 2007, "The effective rank: a measure of effective dimensionality" (EUSIPCO), section 2.

    Args:
        code: [R, Z].

    >>> round(effective_rank(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])), 6)
    2.0
    """
    code = np.asarray(code, float)
    size = np.linalg.svd(code - code.mean(0), compute_uv=False)
    share = size[size > 1e-9 * max(1.0, np.abs(code).max())]
    share = share / share.sum() if share.size else share
    return float(np.exp(-(share * np.log(share)).sum())) if share.size else 0.0


def dormant_share(code: np.ndarray, threshold: float = 0.025) -> float:
    """Share of dimensions whose standard deviation is below `threshold` times the dimensions' mean.

    After Sokar et al. 2023, "The Dormant Neuron Phenomenon" (arXiv 2302.12902), definition 3.1,
    with the deviation in place of the mean activation. 1 where no dimension varies.

    Args:
        code: [R, Z].

    >>> dormant_share(np.array([[0.0, 1.0, 7.0, 7.0], [4.0, 0.0, 7.0, 7.0]]))
    0.5
    """
    std = np.asarray(code, float).std(0)
    return float((std <= threshold * std.mean()).mean())


def disentanglement(importance: np.ndarray) -> tuple[float, float]:
    """Whether each dimension of a code encodes one factor, and each factor is in one dimension.

    With the importance `R_ij >= 0` of dimension i for factor j:

        D = sum_i r_i (1 - H(R_i. / sum) / log F),  r_i the share of dimension i in all importance
        C = mean_j (1 - H(R_.j / sum) / log Z)

    H is the entropy. Eastwood & Williams 2018, "A Framework for the Quantitative Evaluation of
    Disentangled Representations" (ICLR), section 2.

    Args:
        importance: [Z, F], Z > 1 dimensions and F > 1 factors, each with some importance.

    Returns:
        Disentanglement D and completeness C, from 0 to 1.

    >>> disentanglement(np.array([[2.0, 0.0], [0.0, 1.0]]))
    (1.0, 1.0)
    >>> disentanglement(np.ones((2, 2)))
    (0.0, 0.0)
    """
    of_dim, of_factor = importance.sum(1), importance.sum(0)
    single = 1 - _entropy(importance / np.where(of_dim > 0, of_dim, 1)[:, None], axis=1)
    whole = 1 - _entropy(importance / of_factor, axis=0)
    return float((of_dim / of_dim.sum()) @ single), float(whole.mean())


def _entropy(share: np.ndarray, axis: int) -> np.ndarray:
    """Entropy along an axis, relative to that of the uniform distribution."""
    terms = share * np.log(np.where(share > 0, share, 1))
    return -terms.sum(axis) / np.log(share.shape[axis])
