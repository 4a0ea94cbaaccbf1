"""InfoMEC: modularity, explicitness and compactness of a code, from mutual information.

Hsu et al. 2023, "Disentanglement via Latent Quantization" (arXiv 2305.18378), section 4. R rows, Z
dimensions of the code, F factors. Codes and factors are continuous here, so both are quantised into
bins of equal frequency before information is counted. NumPy, in double precision.
"""

import numpy as np


def quantized(x: np.ndarray, num: int) -> np.ndarray:
    """The bin in [0, num) of each entry of x [R, D], bins of a column being equally frequent.

    Equal values share a bin, so that a column of few values has fewer bins.

    >>> quantized(np.array([[0.1], [5.0], [0.2], [9.0]]), 2)[:, 0].tolist()
    [0, 1, 0, 1]
    """
    edges = np.quantile(x, np.arange(1, num) / num, axis=0)
    return (np.asarray(x)[None] >= edges[:, None]).sum(0)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information of two columns of labels [R], by their frequencies; nats.

    >>> label = np.array([0, 0, 1, 1])
    >>> round(mutual_information(label, label), 4), mutual_information(label, label[[0, 2, 1, 3]])
    (0.6931, 0.0)
    """
    shape = a.max() + 1, b.max() + 1
    joint = np.bincount(np.ravel_multi_index((a, b), shape), minlength=np.prod(shape))
    joint = joint.reshape(shape) / len(a)
    alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / alone[seen])).sum())


def normalized_information(code: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """`I(z_i; f_j) / H(f_j)` [Z, F] of labels `code` [R, Z] and `factor` [R, F].

    From 0, the dimension tells nothing of the factor, to 1, it determines the factor. Hsu et al.
    2023, equation 3. A factor that never changes gives 0.
    """
    entropy = [mutual_information(column, column) for column in factor.T]
    told = [[mutual_information(z, f) for f in factor.T] for z in code.T]
    return np.array(told) / np.where(np.array(entropy) > 0, entropy, 1)


def active(code: np.ndarray) -> np.ndarray:
    """Which dimensions [Z] of codes [R, Z] have over a twentieth of the largest dimension's range.

    The others do not count as dimensions, as in the authors' code.
    """
    span = np.ptp(np.asarray(code, float), axis=0)
    return span > span.max() / 20


def modularity(information: np.ndarray) -> float:
    """InfoM: whether a dimension tells of one factor only.

    `(mean_i max_j NMI_ij / sum_j NMI_ij - 1 / F) / (1 - 1 / F)` over the dimensions i that tell
    anything. Hsu et al. 2023, equation 4. 1 where each tells of one factor, 0 where each tells of
    all alike; NaN where none tells anything.

    Args:
        information: [Z, F] of `normalized_information`, F > 1.

    >>> modularity(np.array([[0.8, 0.0], [0.3, 0.3]]))
    0.5
    """
    return _concentration(information)


def compactness(information: np.ndarray) -> float:
    """InfoC: whether a factor is told by one dimension only; `modularity` with the axes exchanged.

    Hsu et al. 2023, equation 5. NaN for a single dimension.

    >>> compactness(np.array([[0.8, 0.3], [0.0, 0.3]]))
    0.5
    """
    return _concentration(information.T)


def explicitness(error: np.ndarray, spread: np.ndarray) -> float:
    """InfoE: how well a linear predictor reads the factors off the code.

    `mean_j (1 - error_j / spread_j)`, the predictive information of a linear predictor relative to
    that of one that sees nothing, with squared errors in place of the cross-entropies of Hsu et al.
    2023, equation 6, since the factors are continuous. Over rows that the predictor was not fitted
    to; negative where it is worse there than knowing nothing.

    Args:
        error: [F] sum of squared errors.
        spread: [F] sum of squared deviations from the mean, positive.

    >>> explicitness(np.array([1.0, 0.0]), np.array([4.0, 2.0]))
    0.875
    """
    return float((1 - error / spread).mean())


def _concentration(information):
    total = information.sum(1)
    told = total > 0
    if not told.any() or information.shape[1] < 2:
        return float("nan")
    share = information[told].max(1) / total[told]
    uniform = 1 / information.shape[1]
    return float((share.mean() - uniform) / (1 - uniform))
