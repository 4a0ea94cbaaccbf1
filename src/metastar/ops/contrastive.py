"""Objectives on task codes: which codes should lie together and which apart."""

import jax
import jax.numpy as jnp

from metastar.types import Array

_SAME_EPSILON = 1e-3  # under the root, so that coinciding codes have gradient zero
_OTHER_EPSILON = 0.1  # bounds the repulsion of two codes
_SCALES = (0.1, 0.3, 1.0)  # of the kernels of `behavior_mmd`, in units of one code dimension
_COUNT_EPSILON = 1e-3  # a batch without a pair of one kind gives zero, not NaN


def distance_terms(code: Array, task_id: Array) -> tuple[Array, Array, Array, Array]:
    """Distance-metric terms over all pairs i < j of rows.

    With `q_ij = mean_z (z_i - z_j)^2`: pairs of one task give `sqrt(q + 0.001)`, pairs of different
    tasks `1 / (q + 0.1)`; each sum is divided by its number of pairs + 0.001.
    FOCAL, Li et al. 2021 (arXiv 2010.01112), equation 13, in the variant of MetaSTAR.

    Args:
        code: [M, Z].
        task_id: [M] int.

    Returns:
        Attraction [], repulsion [], number of pairs of one task [], of different tasks [].

    >>> code = jnp.array([[0.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    >>> terms = distance_terms(code, jnp.array([7, 7, 3]))
    >>> [round(float(x), 4) for x in terms]
    [0.9995, 0.6923, 1.0, 2.0]
    """
    upper = jnp.triu(jnp.ones((code.shape[0], code.shape[0]), bool), k=1)
    same = task_id[:, None] == task_id[None, :]
    square = jnp.mean((code[:, None, :] - code[None, :, :]) ** 2, axis=-1)
    is_pos, is_neg = upper & same, upper & ~same
    n_pos, n_neg = is_pos.sum(), is_neg.sum()
    pos = jnp.sum(jnp.where(is_pos, jnp.sqrt(square + _SAME_EPSILON), 0))
    neg = jnp.sum(jnp.where(is_neg, 1 / (square + _OTHER_EPSILON), 0))
    return pos / (n_pos + _COUNT_EPSILON), neg / (n_neg + _COUNT_EPSILON), n_pos, n_neg


def infonce(
    anchor: Array, positive: Array, task_id: Array, temperature: Array
) -> tuple[Array, Array]:
    """Contrastive loss between two codes of each task, and the information bound it gives.

    With the score `s_ij = cos(anchor_i, positive_j) / temperature` row i costs
    `log[exp s_ii + sum_{other tasks u} mean_{j of u} exp s_ij] - s_ii`: its own positive against
    one candidate per other task. Further rows of its own task are no negatives, and several rows
    of another task count once. Rows are averaged so that each distinct task weighs the same.
    InfoNCE, van den Oord et al. 2018 (arXiv 1807.03748), equation 4.

    `log K - loss`, K the number of distinct tasks, is in expectation a lower bound on the mutual
    information (nats) of task and anchor code: the loss is a cross-entropy of guessing which of K
    candidates shares the anchor's task, and the anchor depends on that index through its task
    alone. The mean over rows of one task keeps the bound, since the logarithm is concave.
    Anchor and positive must come from independent contexts.

    Args:
        anchor: [M, Z].
        positive: [M, Z], row i of the same task as anchor i.
        task_id: [M] int.
        temperature: [] > 0.

    Returns:
        Loss [] and bound [].

    >>> collapsed = jnp.ones((4, 2))  # codes that say nothing cost log 4 and bound nothing
    >>> loss, bound = infonce(collapsed, collapsed, jnp.arange(4), 0.1)
    >>> round(float(loss), 4), round(abs(float(bound)), 4)
    (1.3863, 0.0)
    """
    same = task_id[:, None] == task_id[None, :]
    rows_of_task = same.sum(axis=-1)
    score = _unit(anchor) @ _unit(positive).T / temperature
    own = jnp.diagonal(score)
    other = jnp.where(same, -jnp.inf, score - jnp.log(rows_of_task)[None, :])
    candidates = jnp.concatenate([own[:, None], other], axis=-1)
    weight = 1 / rows_of_task
    num_tasks = weight.sum()
    loss = jnp.sum(weight * (jax.nn.logsumexp(candidates, axis=-1) - own)) / num_tasks
    return loss, jnp.log(num_tasks) - loss


def _unit(x: Array) -> Array:
    """Rows of length one; the zero vector stays zero, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)


def covariance_terms(code: Array) -> tuple[Array, Array]:
    """Standard deviations of a code's dimensions, and the size of their covariances.

    With C the unbiased covariance [Z, Z] of the rows: `sqrt(C_zz + 1e-4)` and
    `1/Z sum_{z != z'} C_zz'^2`. VICReg, Bardes et al. 2022 (arXiv 2105.04906), equations 1 and 3.

    Args:
        code: [M, Z], M > 1.

    Returns:
        [Z] and [].

    >>> code = jnp.array([[1.0, 2.0], [-1.0, -2.0]])  # C = [[2, 4], [4, 8]]
    >>> std, shared = covariance_terms(code)
    >>> round(float(std[0] ** 2), 3), float(shared)
    (2.0, 16.0)
    """
    centred = code - code.mean(axis=0, keepdims=True)
    covariance = centred.T @ centred / (code.shape[0] - 1)
    own = jnp.diagonal(covariance)
    shared = (jnp.sum(covariance**2) - jnp.sum(own**2)) / code.shape[1]
    return jnp.sqrt(own + 1e-4), shared


def behavior_mmd(code: Array, source: Array) -> Array:
    """Squared maximum mean discrepancy between codes of different sources, over all pairs.

    `2 (mean_{same source} k - mean_{different source} k)`, over pairs of rows from different
    columns (tasks), with `k(z, z') = mean_s exp(-mean_z (z - z')^2 / (2 s^2))` for s = 0.1, 0.3, 1.
    For two sources with as many rows each it is the unbiased estimate of MMD^2, Gretton et al.
    2012 (JMLR 13), equation 3; it may be negative. Zero where a kind of pair is missing.

    Args:
        code: [V, M, Z], V codes of each of M tasks, each less its task's mean.
        source: [V, M] int.

    Returns:
        [].

    >>> code = jnp.array([[[1.0], [1.0]], [[-1.0], [-1.0]]])  # sources 0 and 1 of two tasks
    >>> source = jnp.array([[0, 0], [1, 1]])  # k = 1 and mean_s exp(-4 / (2 s^2))
    >>> round(float(behavior_mmd(code, source)), 4), float(behavior_mmd(0 * code, source))
    (1.9098, 0.0)
    """
    task = jnp.broadcast_to(jnp.arange(code.shape[1]), source.shape).reshape(-1)
    rows, source = code.reshape(-1, code.shape[-1]), source.reshape(-1)
    square = jnp.mean((rows[:, None, :] - rows[None, :, :]) ** 2, axis=-1)
    kernel = sum(jnp.exp(-square / (2 * s**2)) for s in _SCALES) / len(_SCALES)
    pairs = task[:, None] != task[None, :]
    alike = source[:, None] == source[None, :]
    same, other = (pairs & alike).sum(), (pairs & ~alike).sum()
    gap = jnp.sum(jnp.where(pairs & alike, kernel, 0)) / jnp.maximum(same, 1)
    gap -= jnp.sum(jnp.where(pairs & ~alike, kernel, 0)) / jnp.maximum(other, 1)
    return jnp.where((same > 0) & (other > 0), 2 * gap, 0)


def unit_length(x: Array) -> Array:
    """`x / max(|x|, 1e-12)` of each row [..., Z], with its gradient: `normalize` of PyTorch."""
    return x / jnp.sqrt(jnp.maximum(jnp.sum(x**2, -1, keepdims=True), 1e-24))


def negatives_infonce(
    query: Array, key: Array, negative: Array, temperature: Array
) -> tuple[Array, Array]:
    """Contrastive loss with K negatives of each query's own.

    `mean -log softmax([q . k, q . n_1, ..., q . n_K] / temperature)_0`; InfoNCE, van den Oord et
    al. 2018 (arXiv 1807.03748), equation 4.

    Args:
        query: [P, Z], of length 1.
        key: [P, Z], the positive of each.
        negative: [P, K, Z].
        temperature: [] > 0.

    Returns:
        Loss [] and logits [P, 1 + K].

    >>> one = jnp.ones((2, 1))  # a positive like its three negatives costs log 4
    >>> loss, logits = negatives_infonce(one, one, jnp.ones((2, 3, 1)), 0.1)
    >>> round(float(loss), 4), logits.shape
    (1.3863, (2, 4))
    """
    candidates = jnp.concatenate([key[:, None], negative], 1)
    logits = jnp.einsum("pz,pkz->pk", query, candidates) / temperature
    return -jax.nn.log_softmax(logits)[:, 0].mean(), logits
