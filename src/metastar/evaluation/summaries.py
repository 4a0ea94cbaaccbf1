"""What `results.json` says of returns: means, intervals, shares, and the scales beside them."""

from collections.abc import Sequence

import numpy as np

from metastar.data import layout
from metastar.ops import statistics
from metastar.types import TaskData


def summary(
    score: np.ndarray,
    optimum: np.ndarray | None = None,
    random: np.ndarray | None = None,
    keep: np.ndarray | None = None,
) -> dict | None:
    """Averages the scores of N tasks, with intervals and on the scale from random to optimum.

    Args:
        score: [N, W] return of task n and unit w (a context window, or a stream of episodes).
        optimum: [N, W] largest possible return from the same starts; None or NaN if not known.
        random: [N, W] return of uniform actions from the same starts.
        keep: [N, W] bool: which scores count; all if None. A task without any is left out.

    Returns:
        `mean` over tasks of the task's mean; `iqm` and `ci95` (of the mean) from
        `ops.statistics`; `per_task` means, None for a task left out; `share` of the scores that
        count; `optimum`, averaged alike; `of_optimum` = mean / optimum where that is positive;
        `normalized` = (mean - random) / (optimum - random). None if no score counts.
    """
    keep = np.ones(score.shape, bool) if keep is None else keep
    if not keep.any():
        return None

    def strata(x):
        return [row[k].astype(float) for row, k in zip(x, keep) if k.any()]

    mean = float(statistics.mean(strata(score)))
    known = optimum is not None and np.isfinite(optimum[keep]).all()
    best = float(statistics.mean(strata(optimum))) if known else None
    low = None if random is None else float(statistics.mean(strata(random)))
    scale = None if best is None or low is None else best - low
    return {
        "mean": mean,
        "iqm": float(statistics.iqm(strata(score))),
        "ci95": list(statistics.bootstrap_interval(strata(score))),
        "per_task": [float(row[k].mean()) if k.any() else None for row, k in zip(score, keep)],
        "share": float(keep.mean()),
        "optimum": best,
        "of_optimum": mean / best if best is not None and best > 0 else None,
        "normalized": (mean - low) / scale if scale else None,
    }


def gap_closed(block: dict | None, bounds: dict) -> dict | None:
    """Adds `gap_closed` = (mean - random) / (oracle - random) to a `summary`; None if no oracle."""
    if block is None:
        return None
    gap = bounds["oracle"] and bounds["oracle"] - bounds["random"]
    return {**block, "gap_closed": (block["mean"] - bounds["random"]) / gap if gap else None}


def block(arrays: dict, rows: np.ndarray, bounds: dict) -> dict:
    """What `results.json` says of one protocol on the tasks in `rows` [N] bool.

    Args:
        arrays: what `measure.make_measure` keeps of the protocol, and `has_success` of the family.
        rows: which tasks.
        bounds: their bounds, for `gap_closed`.

    Returns:
        `title`; the `summary` of the returns of scored episodes, with `gap_closed`. Streams without
        a scored episode are left out, and `share` is the share of the others: all other fields are
        None if it is 0. `success` is the share of episodes that met the goal, None in families
        without one; under a protocol with a budget the share of streams that met it in any episode,
        warm-up included, as in the reference.
        A protocol with a budget also has `by_episode`, the mean return of each episode of a stream,
        scored or not, and `first_episode`, that of the first. A protocol whose contexts are drawn
        from data also has `value`, of `overestimation`; `by_context_source`, a summary by name of
        the source; `informative` and `uninformative`, the summaries of contexts with and without
        reward (None in dense families, and if there are none).
    """
    score, random = arrays["return"][rows], arrays["random_return"][rows]
    optimum, reached = arrays["optimum"][rows], arrays["reached"][rows]
    own = "first_return" in arrays

    def of(score, keep):
        return gap_closed(summary(score, optimum, random, keep), bounds)

    found = {
        "title": str(arrays["title"]),
        **(of(score, np.isfinite(score)) or _missing(len(score))),
        "success": success(reached.any(-1) if own else reached.mean(-1), arrays["has_success"]),
    }
    if own:
        found["first_episode"] = float(arrays["first_return"][rows].mean())
        found["by_episode"] = arrays["episode_return"][:, rows].mean((1, 2)).tolist()
    if "source_return" in arrays:
        sources = zip(arrays["sources"], arrays["source_return"], arrays["source_present"])
        rewarded = arrays["rewarded"][rows] if arrays["rewarded"].size else None
        found |= {
            "value": overestimation(arrays, rows),
            "by_context_source": {
                str(name): of(part[rows], present[rows]) for name, part, present in sources
            },
            "informative": None if rewarded is None else of(score, rewarded),
            "uninformative": None if rewarded is None else of(score, ~rewarded),
        }
    return found


def overestimation(arrays: dict, rows: np.ndarray) -> dict | None:
    """The critics' values of the first step under a fixed code, against the returns that followed.

    `value` is min_i Q_i(s_0, a_0, z), `monte_carlo` sum_t gamma^t r_t of the same greedy policy
    from there to the end of the episode. Rewards after an end by time limit are in the value alone,
    with a weight of `tail` = gamma^T. Values of soft learning also contain an entropy bonus, which
    returns do not.

    Returns:
        Means over tasks of `value` and `monte_carlo`; `mean`, `ci95` and `per_task` of their
        difference, above 0 where values are too high; `gamma`; `tail`. None without critics.
    """
    if "value" not in arrays:
        return None
    value, got = arrays["value"][rows], arrays["monte_carlo"][rows]
    gap = summary(value - got)
    return {
        "value": summary(value)["mean"],
        "monte_carlo": summary(got)["mean"],
        **{name: gap[name] for name in ("mean", "ci95", "per_task")},
        "gamma": float(arrays["gamma"]),
        "tail": float(arrays["gamma"] ** (arrays["path"].shape[-2] - 1)),
    }


def _missing(num_tasks: int) -> dict:
    """The fields of `gap_closed` for `num_tasks` tasks without any score."""
    names = ("mean", "iqm", "ci95", "optimum", "of_optimum", "normalized", "gap_closed")
    return {**dict.fromkeys(names), "per_task": [None] * num_tasks, "share": 0.0}


def stability(rows: Sequence[dict], num: int = 5) -> dict:
    """How steady the last evaluations during training were, from the rows of `metrics.jsonl`.

    Returns:
        By name of the evaluation ("few_shot", "zero_shot", ...): `mean` of the last `num` (fewer in
        a short run), `drop`, the `largest_drop` among them, and `evaluations`, how many there were.
    """
    curves: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if key.startswith("eval/") and isinstance(value, int | float):
                curves.setdefault(key.removeprefix("eval/"), []).append(value)
    return {
        name: {
            "mean": float(np.mean(values[-num:])),
            "drop": statistics.largest_drop(values[-num:]),
            "evaluations": len(values[-num:]),
        }
        for name, values in curves.items()
    }


def success(reached: np.ndarray, has_success: np.ndarray) -> float | None:
    """Share of `reached` that is True; None in families without a success."""
    return float(reached.mean()) if has_success else None


def behavior_best(data: TaskData) -> np.ndarray:
    """The mean return of each task's best source, a behaviour policy at a stage: [N]."""
    returns = layout.returns_of(data)
    present = np.asarray(data.length) > 0
    source = np.asarray(data.policy) * (1 + np.max(data.stage)) + np.asarray(data.stage)
    return np.array(
        [
            max(row[there & (of == k)].mean() for k in np.unique(of[there]))
            for row, of, there in zip(returns, source, present)
        ]
    )
