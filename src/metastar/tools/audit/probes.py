"""The probes of an audit: what small models can predict from the codes of held-out tasks."""

import jax
import jax.numpy as jnp
import numpy as np

from metastar.ops import code_health, infomec, probes, spc_scores, trees
from metastar.ops.statistics import percentile_interval
from metastar.tools.audit import parts
from metastar.tools.audit.codes import Codes

SHUFFLES, MLP_SHUFFLES = 40, 3
SPC_FOLDS = 5  # of its explicitness
MLP_WINDOWS = 2048  # of all cells together, at most, for the MLPs
MLP_MOST, MLP_LEAST = 16, 4  # of each cell
CODE_BINS, FACTOR_BINS = 10, 4  # of equal frequency, for InfoMEC


def identity(codes: Codes, names: list[str]) -> dict:
    """How well the source can be told from a code, as it is and less its task's mean code."""
    reason = None
    if len(names) < 2:
        reason = "the windows are of a single source"
    elif len(codes.keep) < parts.MIN_TASKS:
        reason = parts.too_few(len(codes.keep))
    if reason:
        return dict.fromkeys(("identity", "identity_within_task"), parts.missing(reason))
    return {
        "identity": _identity(codes, codes.code, len(names)),
        "identity_within_task": _identity(codes, _within_task(codes.code, codes.keep), len(names)),
    }


def _identity(codes: Codes, code: np.ndarray, num: int) -> dict:
    keep, x = codes.keep, _standard(codes, code)
    fold = probes.folds(len(keep))
    label = _labels(keep.any(-1), 1 + SHUFFLES)
    guess = probes.linear_classes(x, keep, label, num, fold)
    linear = probes.accuracy(guess, label, keep)

    few = _thinned(keep)
    x, kept = _take(x, few), np.take_along_axis(keep, few, 2)
    label = label[: 1 + MLP_SHUFFLES]
    own = np.broadcast_to(label[..., None], (*label.shape, few.shape[-1]))
    logits = _mlp(x, np.eye(num)[own], kept, fold, classify=True)
    mlp = probes.accuracy(logits.argmax(-1), label, kept)
    return {
        "chance": 1 / num,
        "linear": _scores(linear[0], linear[1:]),
        "mlp": _scores(mlp[0], mlp[1:]),
    }


def statistics(codes: Codes) -> dict:
    """How well codes predict what the policy did in a window: R² of linear probes."""
    num_tasks = len(codes.keep)
    if num_tasks < parts.MIN_TASKS:
        return parts.missing(parts.too_few(num_tasks))
    return {name: _statistic(codes, value) for name, value in codes.statistic.items()}


def _statistic(codes: Codes, value: np.ndarray) -> dict:
    found = {}
    within = _within_task(codes.code, codes.keep), _within_task(value, codes.keep)
    for kind, (code, target) in {"plain": (codes.code, value), "within_task": within}.items():
        x = _pooled(_standard(codes, code))
        y = _pooled(probes.standardize(target, codes.keep, floor=1e-6))
        keep, fold = _pooled(codes.keep), probes.folds(len(codes.keep))
        prediction = probes.with_one(x) @ probes.ridge_weights(x, y, keep, fold)[fold]
        error, spread = (((y - prediction) ** 2).sum(-1) * keep).sum(-1), (y**2).sum((1, 2))
        if not spread.any():
            found[kind] = parts.missing("it never changes")
            continue
        again = probes.r2(error, spread, parts.resampled(len(keep)))
        found[kind] = {
            "r2": float(probes.r2(error, spread, np.ones(len(keep)))),
            "ci95": list(percentile_interval(again)),
        }
    return found


def task(codes: Codes, factor: np.ndarray, names: list[str]) -> dict:
    """How well codes predict the task parameters, and whether that holds across sources.

    Root mean squared errors are in the parameters' own units, over all of them.
    """
    num_tasks = len(factor)
    if num_tasks < parts.MIN_TASKS:
        return parts.missing(parts.too_few(num_tasks))
    target, std = _targets(factor)
    if not std.size:
        return parts.missing("all of these tasks have the same parameters")
    keep, fold = codes.keep, probes.folds(num_tasks)
    x = _standard(codes, codes.code)
    y = np.broadcast_to(target[:, None, None], (*keep.shape, target.shape[-1]))

    def scores(prediction, y, keep):
        """Of predictions [N, ..., R, F] against targets of mean 0."""
        return _explained(prediction, y, keep, 0.0, std)

    flat, targets, kept = _pooled(x), _pooled(y), _pooled(keep)
    pooled = probes.with_one(flat) @ probes.ridge_weights(flat, targets, kept, fold)[fold]
    few = _thinned(keep)
    thin, thin_y, thin_keep = _take(x, few), _take(y, few), np.take_along_axis(keep, few, 2)
    mlp = _mlp(thin, thin_y[None], thin_keep, fold, classify=False)[0]

    weights = probes.ridge_weights(x, y, keep, fold)[fold]  # [N, K, Z + 1, F], by source
    across = np.einsum("nbwz,nazf->nabwf", probes.with_one(x), weights)
    miss = np.where(keep[:, None, ..., None], y[:, None] - across, 0) ** 2
    rows = keep.sum((0, 2))
    spread = (np.where(keep[..., None], y, 0) ** 2).sum((0, 2, 3))
    enough = (keep.any(-1).sum(0) >= parts.MIN_TASKS) & (spread > 0)
    fits = enough[:, None] & enough[None]
    rmse = np.sqrt((miss * std**2).sum((0, 3, 4)) / np.maximum(rows, 1))
    explained = 1 - miss.sum((0, 3, 4)) / np.where(spread > 0, spread, 1)
    return {
        "tasks": num_tasks,
        "std": float(np.sqrt((std**2).sum())),
        "linear": scores(pooled, targets, kept),
        "mlp": scores(mlp, thin_y, thin_keep),
        "sources": names,
        "rmse": parts.matrix(np.where(fits, rmse, np.nan)),
        "r2": parts.matrix(np.where(fits, explained, np.nan)),
    }


def task_of_others(fit: Codes, fit_factor: np.ndarray, codes: Codes, factor: np.ndarray) -> dict:
    """How well probes that were fitted on other tasks predict the parameters of these tasks.

    For held-out tasks the probes are fitted on the training tasks, as many as the model itself had,
    in place of folds of the few held-out tasks.

    Args:
        fit: codes of the tasks that the probes are fitted on.
        fit_factor: [M, F] their parameters.
        codes: of N tasks and the same sources, with at least one window.
        factor: [N, F].

    Returns:
        R² about these tasks' own mean and RMSE, "linear" and "mlp", as those of `task`.
    """
    if len(fit_factor) < parts.MIN_TASKS:
        return parts.missing(parts.too_few(len(fit_factor)))
    both = jax.tree.map(lambda *x: np.concatenate(x), fit, codes)
    held_out = np.repeat([0, 1], [len(fit_factor), len(factor)])
    target, std = _targets(np.concatenate([fit_factor, factor]))
    if not std.size:
        return parts.missing("all of these tasks have the same parameters")
    few = _thinned(both.keep)
    x, keep = _standard(both, both.code), both.keep
    y = np.broadcast_to(target[:, None, None], (*keep.shape, target.shape[-1]))

    def scores(prediction, y, keep):
        """Of predictions [M + N, K, W, F], what those of the N tasks explain about their mean."""
        prediction, y, keep = (value[held_out == 1] for value in (prediction, y, keep))
        return _explained(prediction, y, keep, y[keep].mean(0), std)

    weights = probes.ridge_weights(_pooled(x), _pooled(y), _pooled(keep), held_out)[1]
    thin_y, thin_keep = _take(y, few), np.take_along_axis(keep, few, 2)
    mlp = _mlp(_take(x, few), thin_y[None], thin_keep, held_out, classify=False)[0]
    return {
        "tasks": len(factor),
        "fitted_on": len(fit_factor),
        "std": float(np.sqrt((std**2).sum())),
        "linear": scores(probes.with_one(x) @ weights, y, keep),
        "mlp": scores(mlp, thin_y, thin_keep),
    }


def factors(codes: Codes, factor: np.ndarray) -> dict:
    """DCI, by the weights of linear probes and by trees, and InfoMEC; each in two forms."""
    if len(factor) < parts.MIN_TASKS:
        return parts.missing(parts.too_few(len(factor)))
    target, std = _targets(factor)
    if std.size < 2 or codes.code.shape[-1] < 2:
        return parts.missing(
            "it needs two task parameters that vary and two dimensions of the code"
        )
    x, keep = _pooled(_standard(codes, codes.code)), _pooled(codes.keep)
    y = np.broadcast_to(target[:, None], (*keep.shape, std.size))
    fold = probes.folds(len(keep))
    weights = probes.ridge_weights(x, y, keep, fold)
    importance = np.abs(weights[:, :-1]).mean(0)
    if not importance.sum(0).all():
        return parts.missing("the code says nothing of some task parameter")
    prediction = probes.with_one(x) @ weights[fold]
    error = (np.where(keep[..., None], y - prediction, 0) ** 2).sum((0, 1))
    spread = (np.where(keep[..., None], y, 0) ** 2).sum((0, 1))
    single, whole = code_health.disentanglement(importance)
    return {
        "disentanglement": single,
        "completeness": whole,
        "informativeness": (1 - error / spread).tolist(),
        **_infomec(_pooled(codes.code)[keep], target, np.nonzero(keep)[0]),
        "infomec_explicitness": infomec.explicitness(error, spread),
        **_spc_form(_pooled(codes.code)[keep], target, np.nonzero(keep)[0], importance),
        "trees": _by_trees(codes, target),
    }


def _infomec(code, target, task) -> dict:
    """Modularity and compactness of R codes [R, Z] of the tasks [R] with parameters [N, F].

    With few tasks a dimension tells every parameter to some degree by chance: the information that
    remains when the tasks exchange their parameters at random is subtracted.
    """
    label = infomec.quantized(target, FACTOR_BINS)
    binned = infomec.quantized(code[:, infomec.active(code)], CODE_BINS)
    rng = np.random.default_rng(0)
    chance = np.mean(
        [
            infomec.normalized_information(binned, rng.permutation(label)[task])
            for _ in range(SHUFFLES)
        ],
        axis=0,
    )
    told = np.maximum(infomec.normalized_information(binned, label[task]) - chance, 0)
    return {
        "infomec_modularity": parts.number(infomec.modularity(told)),
        "infomec_compactness": parts.number(infomec.compactness(told)),
    }


def _spc_form(code, target, task, importance) -> dict:
    """The same in SPC's form, of R codes [R, Z] of the tasks [R] with parameters [N, F].

    Importances and bins are those of the other form; `_by_trees` has SPC's trees and neighbours.
    Folds hold out rows, as SPC's do, so that the tasks of held-out rows are known.
    """
    single, whole = spc_scores.disentanglement(importance / importance.sum(0)[None])
    binned = infomec.quantized(code, CODE_BINS)
    label = infomec.quantized(target, FACTOR_BINS)[task]
    fold = np.arange(len(code)) % SPC_FOLDS
    told = np.array([[infomec.mutual_information(z, f) for f in label.T] for z in binned.T])
    return {
        "spc_disentanglement": single,
        "spc_completeness": whole,
        "spc_modularity": spc_scores.modularity(told),
        "spc_compactness": spc_scores.compactness(told),
        "spc_explicitness": spc_scores.explicitness(code, target[task], fold),
    }


def _by_trees(codes: Codes, target: np.ndarray) -> dict:
    """DCI by boosted trees and SPC's InfoM and InfoC by neighbours, on at most `MLP_WINDOWS` rows.

    Importances are of trees that see all tasks. What is read off the code is R² on tasks held out;
    in SPC's form it is that on the very rows that the trees were fitted to.
    """
    if not trees.installed():
        return parts.missing(trees.ABSENT)
    few = _thinned(codes.keep)
    keep = np.take_along_axis(codes.keep, few, 2)
    code, task = _take(codes.code, few)[keep], np.nonzero(keep)[0]
    factor = target[task]
    importance, explained = trees.importance(code, factor)
    single, whole = code_health.disentanglement(importance)
    spc_single, spc_whole = spc_scores.disentanglement(importance)
    told = trees.neighbor_information(code, factor)
    held_out = trees.explained_of_held_out(code, factor, probes.folds(len(target))[task])
    return {
        "disentanglement": single,
        "completeness": whole,
        "informativeness": held_out.tolist(),
        "spc_disentanglement": spc_single,
        "spc_completeness": spc_whole,
        "spc_informativeness": float(explained.mean()),
        "spc_modularity": spc_scores.modularity(told),
        "spc_compactness": spc_scores.compactness(told),
    }


def _standard(codes: Codes, code: np.ndarray) -> np.ndarray:
    """`code` [N, K, W, Z], standardised; dimensions that are rounding beside the codes become 0."""
    scale = np.sqrt((codes.code[codes.keep].astype(float) ** 2).mean())
    return probes.standardize(code, codes.keep, floor=parts.TINY * scale)


def _targets(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parameters that vary, standardised [N, F], and their standard deviations [F]."""
    std = factor.std(0)
    varies = std > 1e-6 * np.abs(factor).max(0)
    factor, std = factor[:, varies], std[varies]
    return (factor - factor.mean(0)) / std, std


def _explained(prediction, y, keep, mean, std) -> dict:
    """R² about `mean` and RMSE of predictions of y [N, ..., F]; middle axes are summed over."""
    axes, num = tuple(range(1, y.ndim)), len(y)
    miss, deviation = (
        np.where(keep[..., None], y - centre, 0) ** 2 for centre in (prediction, mean)
    )
    error, spread = miss.sum(axes), deviation.sum(axes)
    again = probes.r2(error, spread, parts.resampled(num))
    return {
        "r2": float(probes.r2(error, spread, np.ones(num))),
        "rmse": float(np.sqrt((miss * std**2).sum() / max(keep.sum(), 1))),
        "ci95": list(percentile_interval(again)),
    }


def _within_task(x: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """x [N, K, W, D] less its task's mean, in which every cell has the same weight."""
    return x - parts.task_means(x, keep)[:, None, None]


def _labels(cells: np.ndarray, num: int) -> np.ndarray:
    """Labels [num, N, K] of cells: the true ones first, then shuffled among each task's cells.

    All windows of a cell keep one label: windows of one source are alike, whatever its name is.
    """
    rng = np.random.default_rng(0)
    rank = np.where(cells, rng.random((num, *cells.shape)), 2.0).argsort(-1)
    # The k-th cell of a task gets the label of a random one of the task's cells.
    order = np.argsort(~cells, axis=-1, kind="stable")
    label = np.empty(rank.shape, int)
    np.put_along_axis(label, np.broadcast_to(order, rank.shape), rank, -1)
    label[0] = np.arange(cells.shape[1])
    return label


def _scores(score: np.ndarray, shuffled: np.ndarray) -> dict:
    """Accuracy over tasks [N], its bootstrap, and the accuracies with shuffled labels [S, N]."""
    again = parts.resampled(len(score)) @ score / len(score)
    return {
        "accuracy": float(score.mean()),
        "upper95": float(np.percentile(again, 95)),
        "shuffled": float(shuffled.mean()),
        "shuffled_max": float(shuffled.mean(1).max()),
    }


def _mlp(x, y, keep, fold, classify) -> np.ndarray:
    """`probes.mlp_predictions` on cells: x [N, K, W, Z], y [S, N, K, W, F]."""
    y = np.broadcast_to(y, (len(y), *keep.shape, y.shape[-1]))
    rows = (len(x), -1)
    found = probes.mlp_predictions(
        jnp.asarray(x.reshape(*rows, x.shape[-1]), jnp.float32),
        jnp.asarray(y.reshape(len(y), *rows, y.shape[-1]), jnp.float32),
        jnp.asarray(keep.reshape(rows)),
        jnp.asarray(fold),
        jax.random.key(0),
        classify=classify,
        num_folds=int(fold.max()) + 1,
    )
    return np.asarray(found).reshape(*y.shape[:-1], -1)


def _thinned(keep: np.ndarray) -> np.ndarray:
    """Indices [N, K, few] of windows of each cell for an MLP, those that count first."""
    cells = max(keep.any(-1).sum(), 1)
    num = int(np.clip(MLP_WINDOWS // cells, MLP_LEAST, MLP_MOST))
    return np.argsort(~keep, axis=-1, kind="stable")[..., :num]


def _take(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(x, index[..., None], 2)


def _pooled(x: np.ndarray) -> np.ndarray:
    """Joins the sources and windows [N, K, W, ...] of each task into rows [N, K * W, ...]."""
    return x.reshape(len(x), -1, *x.shape[3:])
