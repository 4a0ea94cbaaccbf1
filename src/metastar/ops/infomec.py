"""InfoMEC: modularity, explicitness and compactness of a code, from mutual information.

Hsu et al. 2023, "Disentanglement via Latent Quantization" (arXiv 2305.18378), section 4. R rows, Z
dimensions of the code, F factors. Codes and factors are continuous here, so both are quantised into
bins of equal frequency before information is counted. NumPy, in double precision.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

DECAY = 1e-3  # squared penalty on the weights of the logistic regressions


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

    From 0 to 1, the dimension tells the factor. Hsu et al. 2023, equation 3. A factor that never
    changes gives 0.
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


def explicitness(
    x: np.ndarray, label: np.ndarray, fold: np.ndarray, folds: int
) -> tuple[float, float]:
    """How well a linear classifier reads a quantised factor off the code, on rows held out.

    InfoE of one factor, `(H_null - H_code) / H_null`, with H the cross-entropies of multinomial
    logistic regressions that see nothing and that see the code. Hsu et al. 2023, equation 6; theirs
    are of the rows they were fitted to. 1 where the factor is certain; negative where the
    regression is worse on rows it has not seen than knowing nothing.

    Args:
        x: [R, Z] standardised.
        label: [R] int.
        fold: [R] int in [0, folds): a row is predicted by what was fitted to the other folds.
        folds: J.

    Returns:
        InfoE, and `H_null` in nats.
    """
    cross_entropy = np.zeros(2)
    for held_out in range(folds):
        rows = fold == held_out
        for i, inputs in enumerate((x[:, :0], x)):
            log_p = _logistic(inputs[~rows], label[~rows], label.max() + 1)(inputs[rows])
            cross_entropy[i] -= log_p[np.arange(rows.sum()), label[rows]].sum() / len(label)
    null, code = cross_entropy
    return float((null - code) / null), float(null)


def _concentration(information):
    total = information.sum(1)
    told = total > 0
    if not told.any() or information.shape[1] < 2:
        return float("nan")
    share = information[told].max(1) / total[told]
    uniform = 1 / information.shape[1]
    return float((share.mean() - uniform) / (1 - uniform))


def _logistic(x, label, num):
    """Fits a multinomial logistic regression; returns x [R, Z] -> log-probabilities [R, num]."""
    own = np.eye(num)[label]
    shape = (x.shape[1] + 1, num)

    def score(x, weight):
        return x @ weight[:-1] + weight[-1]

    def loss(flat):
        weight = flat.reshape(shape)
        log_p = log_softmax(score(x, weight), axis=1)
        error = (np.exp(log_p) - own) / len(x)
        penalty = DECAY * weight[:-1]
        grad = np.concatenate([x.T @ error + penalty, error.sum(0, keepdims=True)])
        return -(own * log_p).sum() / len(x) + 0.5 * (penalty * weight[:-1]).sum(), grad.ravel()

    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B").x.reshape(shape)
    return lambda x: log_softmax(score(x, found), axis=1)
