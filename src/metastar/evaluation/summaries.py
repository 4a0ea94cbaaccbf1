"""What `results.json` says of returns: means, intervals, shares, and the scales beside them."""

from collections.abc import Sequence

import numpy as np

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


def few_shot(arrays: dict, rows: np.ndarray, bounds: dict) -> dict:
    """The few-shot block of the tasks in `rows` [N] bool, from `evaluate.make_measure`.

    Returns:
        `summary` of all windows, with `gap_closed`; `value`, of `overestimation`; `success`, the
        share of episodes that met the goal, None in families without one; `by_context_source`, the
        same by name of the source; `informative` and `uninformative`, of windows with and without
        reward (None in dense families, and where there are none).
    """
    score, random = arrays["return"][rows], arrays["random_return"][rows]
    optimum = arrays["optimum"][rows]
    found = zip(arrays["sources"], arrays["source_return"], arrays["source_present"])
    block = {
        **gap_closed(summary(score, optimum, random), bounds),
        "value": overestimation(arrays, rows),
        "success": success(arrays["reached"][rows], arrays["has_success"]),
        "by_context_source": {
            str(name): gap_closed(summary(part[rows], optimum, random, present[rows]), bounds)
            for name, part, present in found
        },
        "informative": None,
        "uninformative": None,
    }
    if arrays["rewarded"].size:
        rewarded = arrays["rewarded"][rows]
        block["informative"] = gap_closed(summary(score, optimum, random, rewarded), bounds)
        block["uninformative"] = gap_closed(summary(score, optimum, random, ~rewarded), bounds)
    return block


def overestimation(arrays: dict, rows: np.ndarray) -> dict | None:
    """What critics expect of the first step of few-shot episodes, against what came of it.

    `value` is min_i Q_i(s_0, a_0, z), `monte_carlo` sum_t gamma^t r_t of the same greedy policy
    from there to the end of the episode. What the agent would get after an end by time limit is in
    the value alone, with a weight of `tail` = gamma^T. Values of soft learning hold an entropy
    bonus too, which no return has.

    Returns:
        Means over tasks of `value` and `monte_carlo`; `mean`, `ci95` and `per_task` of their
        difference, above 0 where values promise too much; `gamma`; `tail`. None without critics.
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


def zero_shot(arrays: dict, rows: np.ndarray, bounds: dict, name: str = "zero_shot") -> dict:
    """The zero-shot block of the tasks in `rows` [N] bool, from `evaluate.make_measure`.

    `name` "explored_<strategy>" makes it from `evaluate.make_measure_explored`.

    Returns:
        `summary` of the returns of scored episodes, which begin when the stream's budget of steps
        is used up (where none ends early, episode 2), with `gap_closed`; streams without one are
        missing, and `share` is of those that have one: all other fields are None if it is 0.
        `first_episode`, the mean return of episode 1, which begins with the random warm-up;
        `success`, the share of streams that met the goal in any episode, warm-up included, as the
        reference counts it.
    """
    score, optimum = arrays[f"{name}_return"][rows], arrays[f"{name}_optimum"][rows]
    random = arrays["zero_shot_random_return"][rows]
    block = gap_closed(summary(score, optimum, random, np.isfinite(score)), bounds)
    return {
        **(block or _missing(len(score))),
        "first_episode": float(arrays[f"{name}_first_return"][rows].mean()),
        "success": success(arrays[f"{name}_reached"][rows].any(-1), arrays["has_success"]),
    }


def _missing(num_tasks: int) -> dict:
    """What `gap_closed` would have of `num_tasks` tasks if it had any score."""
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
            if key.startswith("eval/") and value is not None:
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
    """Share of `reached` that is True; None in families that know no success."""
    return float(reached.mean()) if has_success else None


def behavior_best(data: TaskData) -> np.ndarray:
    """The mean return of each task's best source of behaviour, a policy at a stage: [N]."""
    steps = np.arange(np.shape(data.reward)[-1])
    valid = steps < np.asarray(data.length)[..., None]
    returns = np.where(valid, np.asarray(data.reward, float), 0).sum(-1)
    present = np.asarray(data.length) > 0
    source = np.asarray(data.policy) * (1 + np.max(data.stage)) + np.asarray(data.stage)
    return np.array(
        [
            max(row[there & (of == k)].mean() for k in np.unique(of[there]))
            for row, of, there in zip(returns, source, present)
        ]
    )
