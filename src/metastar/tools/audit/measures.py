"""The numbers of an audit, from codes to JSON objects; formulas are in `ops`.

Every part is a dict. What cannot be computed is `{"not_computed": reason}`.
"""

import jax
import numpy as np

from metastar.ops import alignment, code_health, invariance, probes, spc_scores
from metastar.ops.information import source_information
from metastar.ops.statistics import percentile_interval
from metastar.tools.audit import parts
from metastar.tools.audit import probes as audit_probes
from metastar.tools.audit.codes import Codes

MIN_WINDOWS = 8  # a cell, i.e. one task under one source, with fewer does not count
PERMUTATIONS, ALPHA = 499, 0.05


def of_windows(codes: Codes, keep: np.ndarray, factor: np.ndarray, names: list[str]) -> dict:
    """All measures of one model's codes on some windows of some tasks.

    Args:
        codes: of N tasks and K sources.
        keep: [N, K, W] bool: which windows count; cells with fewer than `MIN_WINDOWS` do not.
        factor: [N, F] the task parameters.
        names: K names of the sources.

    Returns:
        `windows` by source and, if there are enough, `ratio`, `energy`, `identity`,
        `identity_within_task`, `information`, `statistics`, `task`, `factors`.
    """
    keep = _of_cells_that_count(keep)
    cells = keep.any(-1)
    counted = {
        name: {"windows": int(keep[:, k].sum()), "tasks": int(cells[:, k].sum())}
        for k, name in enumerate(names)
    }
    if not keep.any():
        return {"windows": counted, **parts.missing("no source has enough such windows of a task")}
    present = cells.any(0)
    rows = cells.any(1)
    keep, factor, names = keep[rows][:, present], factor[rows], list(np.array(names)[present])
    part = Codes(
        codes.code[rows][:, present],
        keep,
        codes.rewarded[rows][:, present],
        codes.halved[rows][:, present],
        {name: value[rows][:, present] for name, value in codes.statistic.items()},
    )
    return {
        "windows": counted,
        "ratio": ratio(part),
        "energy": energy(part, names),
        **audit_probes.identity(part, names),
        "information": information(part),
        "statistics": audit_probes.statistics(part),
        "task": audit_probes.task(part, factor, names),
        "factors": audit_probes.factors(part, factor),
    }


def task_of_others(
    fit: Codes, fit_keep: np.ndarray, fit_factor: np.ndarray, codes: Codes, keep, factor
) -> dict:
    """`audit_probes.task_of_others` on the windows of either set of tasks that count."""
    fit, codes = (
        one._replace(keep=_of_cells_that_count(own))
        for one, own in ((fit, fit_keep), (codes, keep))
    )
    if not (fit.keep.any() and codes.keep.any()):
        return parts.missing("no source has enough such windows of a task")
    return audit_probes.task_of_others(fit, fit_factor, codes, factor)


def ratio(codes: Codes) -> dict:
    """Variance between policies over variance between tasks, with a bootstrap over tasks."""
    apart = invariance.variance_parts(codes.code, codes.keep)
    num = len(apart.policy)
    if num < 2:
        return parts.missing("fewer than two tasks have windows of two sources")
    policy, tasks = invariance.between_variances(apart, np.ones(num))
    found = {
        "tasks": num,
        "between_policies": float(policy),
        "between_tasks": float(tasks),
        "within": float(apart.within.mean()),
    }
    if tasks <= parts.TINY**2 * (apart.mean**2).sum(-1).mean():
        return found | parts.missing("the codes do not tell the tasks apart")
    again_policy, again_tasks = invariance.between_variances(apart, parts.resampled(num))
    known = again_tasks > 0
    again = again_policy[known] / again_tasks[known]
    return found | {"ratio": float(policy / tasks), "ci95": list(percentile_interval(again))}


def energy(codes: Codes, names: list[str]) -> dict:
    """Energy distances between the sources of a task, over those between tasks of a source.

    The control, on the diagonals, is the same for the two halves of one source's episodes: they
    have one policy and differ by chance only.
    """
    code, keep = codes.code, codes.keep
    num_tasks, num = keep.shape[:2]
    cells = keep.sum(-1) > 1
    if num_tasks < 2 or not (cells.sum(0) > 1).any():
        return parts.missing("no source has windows of two tasks")
    by_source = _energies(code.swapaxes(0, 1), keep.swapaxes(0, 1))  # [K, N, N]
    unit = float(np.nanmean(by_source[:, *np.triu_indices(num_tasks, 1)]))
    scale = float(np.sqrt((code[keep].astype(float) ** 2).sum(-1).mean()))
    if not unit > parts.TINY * scale:
        return parts.missing("the codes do not tell the tasks apart")

    relative = _energies(code, keep) / unit  # [N, K, K], NaN where a cell is missing
    relative[:, range(num), range(num)] = np.nan
    p = np.full(relative.shape, np.nan)
    i, j = np.triu_indices(num, 1)
    n, pair = np.nonzero(cells[:, i] & cells[:, j])
    if n.size:
        a, b = i[pair], j[pair]
        p[n, a, b] = p[n, b, a] = _p_values(code[n, a], code[n, b], keep[n, a], keep[n, b])
    half = keep.shape[-1] // 2
    enough = (keep[..., :half].sum(-1) > 1) & (keep[..., half:].sum(-1) > 1)
    n, k = np.nonzero(codes.halved & enough)
    if n.size:
        pair = np.stack([code[n, k, :half], code[n, k, half:]], 1)
        kept = np.stack([keep[n, k, :half], keep[n, k, half:]], 1)
        relative[n, k, k] = _energies(pair, kept)[:, 0, 1] / unit
        p[n, k, k] = _p_values(pair[:, 0], pair[:, 1], kept[:, 0], kept[:, 1])
    own = np.eye(num, dtype=bool)
    return {
        "between_tasks": unit,
        "alpha": ALPHA,
        "permutations": PERMUTATIONS,
        "pairs": _differing(relative[:, i, j], p[:, i, j], "no task has windows of two sources"),
        "control": _differing(relative[:, own], p[:, own], "no source has two episodes of a task"),
        "sources": names,
        "relative": _mean_over_tasks(relative),
        "share_differing": _mean_over_tasks(np.where(np.isnan(p), np.nan, p <= ALPHA)),
    }


def information(codes: Codes) -> dict:
    """I(z; source | task) in nats, from below, with a bootstrap over tasks.

    Cells whose windows are all of one episode do not count: what a code tells of an episode is not
    what it tells of the policy.
    """
    half = codes.keep.shape[-1] // 2
    both = codes.keep[..., :half].any(-1) & codes.keep[..., half:].any(-1)
    cells = codes.halved & both
    rows = cells.sum(1) > 1
    if rows.sum() < parts.MIN_TASKS:
        return parts.missing("fewer than four tasks have two sources of two episodes each")
    fold = probes.folds(int(rows.sum()))
    found = source_information(codes.code[rows], codes.keep[rows], cells[rows], fold)
    again = parts.resampled(len(found)) @ found / len(found)
    return {
        "tasks": len(found),
        "nats": float(found.mean()),
        "ci95": list(percentile_interval(again)),
        "entropy": float(np.log(cells[rows].sum(1)).mean()),
    }


def use(results: dict) -> dict:
    """What the agent returns when its code is exchanged, in the protocol `swapped` and by source.

    `other_source` is the mean over tasks, and pairs of sources that both have data in the task, of
    how far apart the returns under their codes are; windows are finite, which adds to it.
    """
    protocols = results["protocols"]
    few, swapped = (protocols.get(name) for name in ("few_shot", "swapped"))
    if not few or not swapped:
        return parts.missing(
            "the run was not evaluated under both few_shot and swapped; run `metastar evaluate "
            "--protocols=swapped` first"
        )
    blocks = [block["per_task"] for block in few["by_context_source"].values() if block]
    by_source = np.array(blocks, float)  # [K, N], NaN where a source has no data
    i, j = np.triu_indices(len(by_source), 1)
    apart = np.abs(by_source[i] - by_source[j])
    apart = apart[:, np.isfinite(apart).any(0)]
    return {
        "own": few["mean"],
        "other_source": float(np.nanmean(apart, 0).mean()) if apart.size else None,
        "other_task": few["mean"] - swapped["mean"],
        "swapped": swapped["mean"],
    }


def alike(one: np.ndarray, other: np.ndarray, keep: np.ndarray) -> dict:
    """Two models' codes [N, K, W, Z] of the same windows: of each window, and each task's mean."""
    found = {}
    sides = {"windows": (one[keep], other[keep])}
    rows = keep.any((1, 2))
    means = (parts.task_means(code[rows], keep[rows]) for code in (one, other))
    sides["task_means"] = tuple(means)
    for name, (x, y) in sides.items():
        found[name] = {
            "rows": len(x),
            "procrustes_residual": parts.number(alignment.procrustes_residual(x, y)),
            "cka": parts.number(alignment.linear_cka(x, y)),
        }
    return found


def health(codes: Codes) -> dict:
    """Scale, ranks and dormant dimensions over all windows."""
    code = codes.code[codes.keep]
    return {
        "rms_norm": code_health.rms_norm(code),
        "effective_rank": code_health.effective_rank(code),
        "dimensions": code.shape[-1],
        "dormant": code_health.dormant_share(code),
        "feature_rank": spc_scores.feature_rank(code),
        "matrix_rank": spc_scores.matrix_rank(code),
        "dormant_spc": spc_scores.dormant_ratio(code),
    }


def drift(before: np.ndarray, after: np.ndarray, keep: np.ndarray) -> dict:
    """Change of the codes [N, K, W, Z] of the same windows, plain and up to a rotation."""
    x, y = before[keep].astype(float), after[keep].astype(float)
    size = np.linalg.norm(y)
    return {
        "rms_norm": code_health.rms_norm(x),
        "relative_change": float(np.linalg.norm(y - x) / size) if size else None,
        "procrustes_residual": parts.number(alignment.procrustes_residual(x, y)),
    }


def cost(results: dict) -> dict:
    """Returns by source of the context, and what the worst source costs.

    Both are of the first protocol that was evaluated by source.
    """
    blocks, bounds = results["protocols"].values(), results["bounds"]
    sources = next((x for x in (b.get("by_context_source") for b in blocks) if x), {})
    by_source = {k: v for k, v in sources.items() if v is not None}
    found = {
        "by_source": {
            name: {"return": block["mean"], "gap_closed": block["gap_closed"]}
            for name, block in by_source.items()
        },
        "random": bounds["random"],
        "oracle": bounds["oracle"],
    }
    order = sorted(by_source, key=lambda name: by_source[name]["mean"])
    if not order:
        return parts.missing("results.json has no return by source of the context")
    best, worst = (by_source[order[i]] for i in (-1, 0))
    drop = {"best": order[-1], "worst": order[0], "return": best["mean"] - worst["mean"]}
    if best["gap_closed"] is None:
        drop["normalized"] = parts.missing("the run was evaluated without an oracle (--oracle)")
    else:
        drop["normalized"] = best["gap_closed"] - worst["gap_closed"]
    return found | {"drop": drop}


def _of_cells_that_count(keep: np.ndarray) -> np.ndarray:
    return keep & (keep.sum(-1, keepdims=True) >= MIN_WINDOWS)


def _differing(relative: np.ndarray, p: np.ndarray, otherwise: str) -> dict:
    """Averages over the pairs with a p-value."""
    known = np.isfinite(p)
    if not known.any():
        return parts.missing(otherwise)
    return {
        "count": int(known.sum()),
        "relative": float(np.mean(relative[known])),
        "share_differing": float((p[known] <= ALPHA).mean()),
    }


@jax.jit
def _energy_matrices(x, keep):
    return invariance.energy_distances(
        jax.lax.map(lambda a: invariance.mean_distances(*a), (x, keep))
    )


def _energies(x, keep) -> np.ndarray:
    """Energy distances [B, G, G] of all pairs of the G groups of each of B batches [B, G, W, Z]."""
    return np.asarray(_energy_matrices(x, keep), float)


@jax.jit
def _test_all(x, y, keep_x, keep_y, place):
    return jax.lax.map(lambda a: invariance.energy_test(*a, place), (x, y, keep_x, keep_y))


def _p_values(x, y, keep_x, keep_y) -> np.ndarray:
    """Permutation p-values [B] of pairs of samples [B, W, Z]; all pairs share the permutations."""
    members = np.tile(np.arange(x.shape[1] + y.shape[1]), (PERMUTATIONS, 1))
    place = np.random.default_rng(0).permuted(members, axis=1)
    return np.asarray(_test_all(x, y, keep_x, keep_y, place), float)


def _mean_over_tasks(value: np.ndarray) -> list:
    """Mean [K, K] over tasks of the finite entries of [N, K, K]."""
    known = np.isfinite(value)
    total = np.where(known, value, 0).sum(0)
    return parts.matrix(np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan))
