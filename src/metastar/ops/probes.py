"""Probes: small models that read something from task codes, scored on tasks they never saw.

N tasks, K sources of context, W windows; R rows of one task; Z code; F targets; C classes; J folds;
S sets of labels. Folds hold out whole tasks, so that a probe cannot memorise a task. Probes with a
closed form are in NumPy, in double precision.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastar.types import Array

RIDGE = 1e-3  # penalty per row, on standardised codes
HIDDEN, STEPS, RATE, DECAY = 32, 300, 1e-2, 1e-3  # of the MLP


def folds(num_tasks: int, num: int = 5) -> np.ndarray:
    """The fold [N] of each task: every `num`-th task together, at most one fold per task.

    >>> folds(7, 3).tolist()
    [0, 1, 2, 0, 1, 2, 0]
    """
    return np.arange(num_tasks) % min(num, num_tasks)


def standardize(x: np.ndarray, keep: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Columns of x [..., D] with mean 0 and variance 1 over the rows `keep` [...]; others are 0.

    A column whose standard deviation is at most `floor`, or a millionth of its size, becomes 0.
    """
    x = np.where(keep[..., None], x, 0).astype(float)
    rows = x[keep]
    mean, std = rows.mean(0), rows.std(0)
    known = std > np.maximum(floor, 1e-6 * np.abs(mean))
    scaled = (x - mean) / np.where(known, std, 1)
    return np.where(keep[..., None] & known, scaled, 0)


def ridge_weights(x: np.ndarray, y: np.ndarray, keep: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Fits one linear map per fold on the other folds' tasks, with a penalty on the slopes.

    `argmin_B sum_rows |y - (x, 1) B|^2 + RIDGE * rows * |slopes|^2`, in closed form. Middle axes of
    the arguments, for instance sources, are fitted apart.

    Args:
        x: [N, ..., R, Z] standardised.
        y: [N, ..., R, F].
        keep: [N, ..., R] bool.
        fold: [N] int in [0, J).

    Returns:
        [J, ..., Z + 1, F], the intercept last.
    """
    x = with_one(x) * keep[..., None]
    gram = _of_other_folds(np.einsum("...rd,...re->...de", x, x), fold)
    moment = _of_other_folds(np.einsum("...rd,...rf->...df", x, y), fold)
    rows = gram[..., -1:, -1:]  # the square of the intercept's column counts them
    slopes = np.append(np.full(x.shape[-1] - 1, RIDGE), 1e-9)
    return np.linalg.solve(gram + np.maximum(rows, 1) * np.diag(slopes), moment)


def with_one(x: np.ndarray) -> np.ndarray:
    """Appends a column of ones to x [..., Z]."""
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], -1)


def linear_classes(
    x: np.ndarray, keep: np.ndarray, label: np.ndarray, num: int, fold: np.ndarray
) -> np.ndarray:
    """Linear discriminant analysis with equal priors, cross-validated over tasks.

    The class c of largest `x' C^-1 m_c - m_c' C^-1 m_c / 2`, with class means m and the covariance
    C within classes of the other folds' tasks, plus `RIDGE` on its diagonal. Hastie, Tibshirani &
    Friedman 2009, "The Elements of Statistical Learning", equation 4.10.

    Args:
        x: [N, K, W, Z] standardised; the windows of a cell, a task under a source, share a label.
        keep: [N, K, W] bool.
        label: [S, N, K] int in [0, C): the true labels, or shuffled ones.
        num: C.
        fold: [N].

    Returns:
        [S, N, K, W] the class that each window is taken for.
    """
    x = x * keep[..., None]
    own = np.eye(num)[label]  # [S, N, K, C]
    rows = keep.sum(-1).astype(float)
    count = np.einsum("snkc,nk->nsc", own, rows)
    total = np.einsum("snkc,nkz->nscz", own, x.sum(2))
    count, total = (_of_other_folds(value, fold) for value in (count, total))
    second = _of_other_folds(np.einsum("nkwy,nkwz->nyz", x, x), fold)  # [J, Z, Z]
    mean = total / np.maximum(count, 1)[..., None]  # [J, S, C, Z]
    square = second[:, None] - np.einsum("jsc,jscy,jscz->jsyz", count, mean, mean)
    spread = square / np.maximum(count.sum(-1), 1)[..., None, None] + RIDGE * np.eye(x.shape[-1])
    slope = np.linalg.solve(spread, mean.swapaxes(-1, -2))  # [J, S, Z, C]
    offset = np.einsum("jscz,jszc->jsc", mean, slope) / 2
    offset = np.where(count > 0, offset, np.inf)[fold]  # a class that was never seen is never taken
    guess = np.empty((len(label), *keep.shape), int)
    for s in range(len(label)):  # one set of labels at a time: all scores at once would be large
        score = np.einsum("nkwz,nzc->nkwc", x, slope[fold, s]) - offset[:, s, None, None]
        guess[s] = score.argmax(-1)
    return guess


def accuracy(guess: np.ndarray, label: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Share [S, N] of right guesses [S, N, K, W] in each task, every cell weighing alike.

    `label` is [S, N, K]; a task without any window gives NaN.
    """
    right = ((guess == label[..., None]) & keep).sum(-1)
    rows = keep.sum(-1)
    cells = (rows > 0).sum(-1)
    return (right / np.maximum(rows, 1)).sum(-1) / np.where(cells > 0, cells, np.nan)


def r2(error: np.ndarray, spread: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Explained share of the variance: `1 - sum of squared errors / sum of squared deviations`.

    Args:
        error: [N] squared errors of each task, summed over rows and standardised targets.
        spread: [N] squared deviations of the targets from their mean, summed alike.
        times: [..., N] how often each task counts.

    >>> float(r2(np.array([1.0, 0.0]), np.array([2.0, 2.0]), np.ones(2)))
    0.75
    """
    return 1 - (times @ error) / (times @ spread)


@partial(jax.jit, static_argnames=("classify", "num_folds"))
def mlp_predictions(
    x: Array, y: Array, keep: Array, fold: Array, key: Array, *, classify: bool, num_folds: int
) -> Array:
    """An MLP with one hidden layer, trained per fold on the other folds' tasks, on whole batches.

    All folds and all sets of targets are trained at once by Adam with weight decay.

    Args:
        x: [N, R, Z] standardised.
        y: [S, N, R, F] targets, standardised; or one-hot classes.
        keep: [N, R] bool.
        fold: [N] int in [0, num_folds).
        key: of the initial weights.
        classify: whether the loss is a cross-entropy, else a squared error.
        num_folds: J.

    Returns:
        [S, N, R, F] what the fold that holds a task out predicts for it: logits, or values.
    """
    optimizer = optax.adamw(RATE, weight_decay=DECAY)

    def predict(params, x):
        hidden = jnp.tanh(x @ params["in"] + params["bias"][None, None])
        return hidden @ params["out"] + params["offset"][None, None]

    def train(y, held_out):
        weight = (keep & (fold != held_out)[:, None]).astype(x.dtype)
        key_in, key_out = jax.random.split(key)
        params = {
            "in": jax.random.normal(key_in, (x.shape[-1], HIDDEN)) / jnp.sqrt(x.shape[-1]),
            "bias": jnp.zeros(HIDDEN),
            "out": jax.random.normal(key_out, (HIDDEN, y.shape[-1])) / jnp.sqrt(HIDDEN),
            "offset": jnp.zeros(y.shape[-1]),
        }

        def loss(params):
            out = predict(params, x)
            if classify:
                value = optax.softmax_cross_entropy(out, y)
            else:
                value = jnp.square(out - y).mean(-1)
            return (value * weight).sum() / jnp.maximum(weight.sum(), 1)

        def step(carry, _):
            params, state = carry
            change, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, change), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS)
        return predict(params, x)

    over_folds = jax.vmap(train, in_axes=(None, 0))
    found = jax.vmap(over_folds, in_axes=(0, None))(y, jnp.arange(num_folds))  # [S, J, N, R, F]
    return found[:, fold, jnp.arange(len(fold))]


def _of_other_folds(value: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Sums [J, ...] of `value` [N, ...] over the tasks that are not in each fold."""
    others = fold[None] != np.arange(fold.max() + 1)[:, None]
    return np.tensordot(others.astype(float), value, 1)
