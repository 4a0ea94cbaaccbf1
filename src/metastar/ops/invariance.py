"""Whether task codes depend on the source of the context: variance parts and energy distances.

N tasks, K sources (a behaviour policy at a stage of its learning), W windows of each; Z task code.
A *cell* is one task with one source; `keep` says which of its windows count.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.types import Array


class Parts(NamedTuple):
    """Parts of the ratio of variances, for each of n tasks with at least two usable cells."""

    policy: np.ndarray  # [n] unbiased variance of the cells' true means around the task's
    mean: np.ndarray  # [n, Z] mean of the task's cell means
    noise: np.ndarray  # [n] variance of `mean` that comes from finitely many windows
    within: np.ndarray  # [n] variance of the windows of one cell, mean over cells


def variance_parts(code: np.ndarray, keep: np.ndarray) -> Parts:
    """Splits the variance of codes into parts between policies, between tasks and within cells.

    All variances are traces of covariances. With the cell means `m_k` of one task, their mean `M`,
    and the unbiased variance `s_k^2` of the `w_k` windows of cell k, over the task's K cells:

        policy = sum_k |m_k - M|^2 / (K - 1) - sum_k s_k^2 / w_k / K
        noise  = sum_k s_k^2 / w_k / K^2

    Independent windows of variance `s_k^2` raise the first sum by just `sum_k s_k^2 / w_k / K` in
    expectation, so `policy` is unbiased, and may be negative. One-way analysis of variance with
    unequal variances.

    Args:
        code: [N, K, W, Z].
        keep: [N, K, W] bool. A cell with fewer than two windows, and a task with fewer than two
            such cells, are left out.

    Returns:
        `Parts`, in squared units of the code.

    >>> code = np.array([[[[0.0], [2.0]], [[10.0], [12.0]]]])  # one task: cells 0, 2 and 10, 12
    >>> parts = variance_parts(code, np.ones((1, 2, 2), bool))
    >>> [x.ravel().tolist() for x in parts]  # policy = 50 - 1, noise = (1 + 1) / 4
    [[49.0], [6.0], [0.5], [2.0]]
    """
    count = keep.sum(-1)
    usable = (count > 1) & ((count > 1).sum(-1, keepdims=True) > 1)
    rows = usable.any(-1)
    code, keep, usable = code[rows].astype(float), keep[rows, ..., None], usable[rows]
    count = np.maximum(count[rows], 2)
    mean = np.where(keep, code, 0).sum(2) / count[..., None]
    square = np.where(keep, (code - mean[:, :, None]) ** 2, 0).sum((2, 3))
    within = np.where(usable, square / (count - 1), 0)
    cells = usable.sum(-1)
    task_mean = np.where(usable[..., None], mean, 0).sum(1) / cells[:, None]
    apart = np.where(usable, ((mean - task_mean[:, None]) ** 2).sum(-1), 0).sum(-1) / (cells - 1)
    error = (within / count).sum(-1) / cells
    return Parts(apart - error, task_mean, error / cells, within.sum(-1) / cells)


def between_variances(parts: Parts, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance between policies and variance between tasks, both without the windows' noise.

        between policies = mean_n policy_n
        between tasks    = sum_n |M_n - mean M|^2 / (n - 1) - mean_n noise_n

    The sources are taken as given, not as a sample of all policies. Their ratio, policies over
    tasks, is 0 for codes that depend on the task alone and 1 where a change of source moves the
    code as far as a change of task.

    Args:
        parts: of n > 1 tasks.
        times: [..., n] how often each task counts; ones, or the draws of a bootstrap.

    Returns:
        Both variances [...], in squared units of the code.

    >>> parts = Parts(np.array([1.0, 3.0]), np.array([[0.0], [4.0]]), np.full(2, 0.5), np.ones(2))
    >>> [float(x) for x in between_variances(parts, np.ones(2))]  # (4 + 4) / 1 - 0.5
    [2.0, 7.5]
    """
    num = times.sum(-1)
    centred = parts.mean - parts.mean.mean(0)
    middle = times @ centred / num[..., None]
    spread = times @ (centred**2).sum(-1) - num * (middle**2).sum(-1)
    return times @ parts.policy / num, spread / (num - 1) - times @ parts.noise / num


def mean_distances(x: Array, keep: Array) -> Array:
    """Mean Euclidean distance between the members of every two groups, and within each group.

    Args:
        x: [G, W, Z].
        keep: [G, W] bool: which members count.

    Returns:
        [G, G]; the diagonal is over pairs of different members. NaN where there is no pair.

    >>> x = jnp.array([[[0.0], [2.0]], [[5.0], [5.0]]])
    >>> mean_distances(x, jnp.ones((2, 2), bool)).tolist()
    [[2.0, 4.0], [4.0, 0.0]]
    """
    weight = keep.astype(x.dtype)

    def to_all(args):
        one, weight_one = args
        distance = _distance(one[None, :, None], x[:, None])  # [G, W, W]
        return jnp.einsum("gij,i,gj->g", distance, weight_one, weight)

    total = jax.lax.map(to_all, (x, weight))
    count = weight.sum(-1)
    pairs = count[:, None] * count[None, :] - jnp.diag(count)
    return total / jnp.where(pairs > 0, pairs, jnp.nan)


def energy_distances(distance: Array) -> Array:
    """Energy distances of all pairs of groups, from their `mean_distances` [..., G, G].

    `2 E|X - Y| - E|X - X'| - E|Y - Y'|`, zero if and only if X and Y have one distribution.
    The means leave out a member's distance to itself, so that the estimate is unbiased: around 0,
    of either sign, for two samples of one distribution of whatever size. Székely & Rizzo 2013,
    "Energy statistics" (Journal of Statistical Planning and Inference 143, 1249-1272), equation 5.

    Returns:
        [..., G, G] in the units of the members, zero on the diagonal.

    >>> energy_distances(jnp.array([[2.0, 4.0], [4.0, 0.0]])).tolist()
    [[0.0, 6.0], [6.0, 0.0]]
    """
    own = jnp.diagonal(distance, axis1=-2, axis2=-1)
    return 2 * distance - own[..., :, None] - own[..., None, :]


def energy_test(x: Array, y: Array, keep_x: Array, keep_y: Array, place: Array) -> Array:
    """p-value of the hypothesis that two samples have one distribution, by permutation.

    The energy distance of the samples is compared with that of P random divisions of both
    together: `p = (1 + #{permuted >= observed}) / (1 + P)`, exact whatever the distribution, if the
    members are independent. Székely & Rizzo 2013, section 6.

    Args:
        x: [W, Z].
        y: [V, Z].
        keep_x: [W] bool: which members count.
        keep_y: [V] bool.
        place: [P, W + V] int, each row a random permutation: the members' places in it.

    Returns:
        [] in (0, 1]; NaN where a sample has fewer than two members.
    """
    both, keep = jnp.concatenate([x, y]), jnp.concatenate([keep_x, keep_y])
    size_x, size_y = keep_x.sum(), keep_y.sum()
    distance = _distance(both[:, None], both[None])
    # Those that count and come first in a permutation make up its first sample.
    place = jnp.where(keep[None], place, len(both))
    last = jnp.sort(place, axis=-1)[:, size_x - 1, None]
    observed = jnp.arange(len(both)) < len(x)
    first = jnp.concatenate([observed[None], place <= last])  # [1 + P, W + V]
    a = (first & keep[None]).astype(both.dtype)
    b = (~first & keep[None]).astype(both.dtype)
    to_a, to_b = a @ distance, b @ distance
    across = (to_a * b).sum(-1) / (size_x * size_y)
    within_a = (to_a * a).sum(-1) / (size_x * (size_x - 1))
    within_b = (to_b * b).sum(-1) / (size_y * (size_y - 1))
    energy = 2 * across - within_a - within_b
    # Equal divisions differ by rounding alone, which must not make them look extreme.
    tied = 1e-5 * across[0]
    p = (1 + (energy[1:] >= energy[0] - tied).sum()) / len(energy)
    return jnp.where((size_x > 1) & (size_y > 1), p, jnp.nan)


def _distance(x: Array, y: Array) -> Array:
    """Euclidean distance over the last axis of arrays that broadcast."""
    return jnp.sqrt(jnp.sum((x - y) ** 2, axis=-1))
