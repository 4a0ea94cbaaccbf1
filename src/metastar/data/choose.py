"""Which tasks of a data set a run learns from, and which of their episodes it draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from metastar.data import checks, layout
from metastar.data.manifest import Manifest
from metastar.errors import UserError, did_you_mean
from metastar.types import Context, TaskData

CROSS_TASK = "cross_task"  # episodes by policies of other tasks: for tests, never for training


def split_ids(manifest: Manifest, cfg: ConfigDict) -> dict[str, list[int]]:
    """Indices of a run's tasks: "train", "test" and, if the data have them, those in `store.OOD`.

    These are the manifest's; but with `cfg.data.validation_tasks = k > 0`, k training tasks are
    withheld and take the place of the test tasks, and no other held-out task is used: the last
    ones; "spread" evenly over all in their order, up to half of them between others; or those of
    which the parameters, in standard deviations, are farthest from their mean.

    Raises:
        UserError: k leaves no training task, or nothing is held out.
    """
    train, num = list(manifest.split["train"]), cfg.data.validation_tasks
    if not 0 <= num < len(train):
        raise UserError(
            f"data.validation_tasks={num} leaves no training task of {len(train)}; "
            f"choose at most {len(train) - 1}"
        )
    if num:
        withheld = set(_withheld(train, num, cfg.data.validation_choice, manifest.tasks))
        return {
            "train": [n for n in train if n not in withheld],
            "test": [n for n in train if n in withheld],
        }
    if not manifest.split.get("test"):
        raise UserError(
            "the data set has no test tasks; withhold some with --config.data.validation_tasks"
        )
    names = [name for name in checks.PARTS if manifest.split.get(name)]
    return {name: list(manifest.split[name]) for name in names}


def _withheld(
    train: list[int], num: int, choice: str, tasks: Mapping[str, np.ndarray]
) -> Sequence[int]:
    """Which `num` of the training tasks `train` are withheld, by `data.validation_choice`."""
    if choice == "last":
        return train[-num:]
    if choice == "spread":
        return [train[n] for n in ((np.arange(num) + 0.5) * len(train) / num).astype(int)]
    values = [np.reshape(x, (len(x), -1))[train] for x in tasks.values()]
    factor = np.concatenate(values, 1).astype(float)
    far = np.square((factor - factor.mean(0)) / (factor.std(0) + 1e-9)).sum(1)
    return [train[n] for n in np.argsort(far, kind="stable")[-num:]]


def episodes(data: Any, train: Sequence[int], cfg: ConfigDict) -> np.ndarray:
    """Those [E] of `data.policies` and `data.stages`; of training tasks `data.fraction` of them.

    No cross-task ones unless they are asked for.

    Args:
        data: a `store.DataSet`.
        train: indices of the training tasks.
        cfg: the run's config; `data` is used.

    Raises:
        UserError: the data lack a policy or a stage.
    """
    path, manifest, fields = data
    others = [name for name in manifest.policies if name != CROSS_TASK]
    asked = {
        "policy": (cfg.data.policies, manifest.policies, others),
        "stage": (cfg.data.stages, manifest.stages, manifest.stages),
    }
    chosen = np.ones(fields["length"].shape, bool)
    for kind, (names, known, default) in asked.items():
        names = [name.strip() for name in names.split(",")] if names else default
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known)
                raise UserError(f"data set {path} has no {kind} {name!r}{hint}")
        chosen &= np.isin(fields[kind], [known.index(name) for name in names])
    if cfg.data.fraction < 1:
        of_task = np.diff(layout.offsets(fields).episode)
        thinned = np.repeat(np.isin(np.arange(len(of_task)), train), of_task)
        chosen &= _spaced(chosen, of_task, cfg.data.fraction) | ~thinned
    return chosen


def expect_windows(data: TaskData, context: Context, cfg: ConfigDict) -> None:
    """Raises `UserError` if `data.fraction` leaves a training task without a whole window.

    Bags are drawn with replacement, so that any number of transitions fills them.

    Args:
        data: the training tasks.
        context: of the method.
        cfg: the run's config; `data.fraction` is used.
    """
    left = np.asarray(data.count)
    if cfg.data.fraction < 1 and context.ordered and left.min() < context.length:
        raise UserError(
            f"data.fraction={cfg.data.fraction} leaves {left.min()} transitions of training task "
            f"{left.argmin()}, less than the {context.length} of a window that the task is "
            "inferred from; raise it"
        )


def _spaced(chosen: np.ndarray, of_task: np.ndarray, fraction: float) -> np.ndarray:
    """Every 1 / fraction-th of the chosen episodes [E] of each task; `of_task` [N] sums to E."""
    ends = np.concatenate([[0], np.cumsum(chosen)])
    before = np.repeat(ends[np.concatenate([[0], np.cumsum(of_task)[:-1]])], of_task)
    rank = ends[:-1] - before  # among the chosen ones of the task, from 0
    whole = np.floor([(rank + 1) * fraction + 1e-9, rank * fraction + 1e-9])
    return whole[0] > whole[1]
