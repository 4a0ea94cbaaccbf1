"""How a data set's tasks are told apart, also where no family by its name is known."""

from typing import NamedTuple

import numpy as np

from metastar import registry
from metastar.data.manifest import config_of
from metastar.data.store import Manifest
from metastar.envs.make import family_of, task_shapes


class Described(NamedTuple):
    """What a card shows of the tasks."""

    label: str  # the name of a task's number
    values: np.ndarray  # [N] that number
    sparse: bool  # whether most steps pay nothing
    goal: np.ndarray | None  # [N, 2]


def describe(manifest: Manifest) -> Described:
    """Describes the tasks of a data set.

    As its family does. Data of a family that is not known, or with other parameters than its tasks
    have, are told by their first task parameter that is one number a task, else by the task's place
    in the data set, and do not count as sparse.
    """
    known = manifest.family in registry.names("family")
    profile = config_of(manifest).get("env.profile", "default")
    if known and task_shapes(manifest.family, profile) in (None, manifest.task_shapes):
        family = family_of(manifest.family, profile)
        goal = family.goal(manifest.tasks) if family.goal else None
        return Described(*family.label(manifest.tasks), family.sparse, goal)
    for name, value in manifest.tasks.items():
        if value.ndim == 1:
            return Described(name, value, False, None)
    place = np.arange(sum(map(len, manifest.split.values())), dtype=float)
    return Described("task", place, False, None)
