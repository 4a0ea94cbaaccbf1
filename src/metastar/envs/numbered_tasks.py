"""Laws of task families whose tasks are numbered, with the splits that ER-TRL and SPC publish.

Task k of 40 is a point of a regular grid, so that a split is a list of numbers. Tasks out of
distribution lie beyond both ends of the grid's middle, from which the training tasks are.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from metastar.errors import UserError

NUM = 40
# ER-TRL (its environments' files): trains on 10 to 29 and tests on these, on 5 to 9 and 30 to 34,
# and on 0 to 4 and 35 to 39. It withholds no task within the range of training; ours are the ten
# half-way between two of its tasks.
ER_TRL = {
    "id": (*range(10, 30), *np.arange(10.5, 30, 2)),
    "ood_moderate": (*range(5, 10), *range(30, 35)),
    "ood_extreme": (*range(5), *range(35, 40)),
}
# SPC: of 5 to 34 it withholds every third, and tests on 0 to 4 and 35 to 39. It has no moderate
# split.
SPC_TEST = tuple(range(6, 34, 3))
SPC = {
    "id": (*(k for k in range(5, 35) if k not in SPC_TEST), *SPC_TEST),
    "ood_extreme": ER_TRL["ood_extreme"],
}
TRAIN_TASKS, TEST_TASKS = 20, 10  # of "id", in both; the first are those for training


def laws(task_of: Callable, splits: Mapping[str, Sequence[float]]) -> dict[str, Callable]:
    """The laws of a `Family` by name of the split.

    With 20 training and 10 test tasks, and 10 of each kind out of distribution, these are exactly
    the published ones; with fewer they are spread evenly over them.

    Args:
        task_of: (numbers, float64 [num]) -> task parameters, leaves [num, ...].
        splits: numbers of tasks by name; of "id" first those for training, then those withheld.
    """
    return {name: partial(_pick, task_of, name, ids) for name, ids in splits.items()}


def _pick(task_of, name, ids, rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    if num > len(ids):
        kind = "data.train_tasks and data.test_tasks" if name == "id" else "data.ood_tasks"
        raise UserError(
            f"the split {name!r} of this family has {len(ids)} tasks, not {num}; lower {kind}"
        )
    return task_of(np.array(ids, float)[np.linspace(0, len(ids) - 1, num).round().astype(int)])
