"""How a data set's tasks are told apart, also where no family by its name is known."""

import numpy as np

from metastar import registry
from metastar.data.store import Manifest


def describe(manifest: Manifest) -> tuple[str, np.ndarray, bool]:
    """Returns the name of a task's number, that number [N], and whether most steps pay nothing.

    They are the family's. Data of a family that is not known have their first task parameter that
    is one number a task, else the task's place in the data set, and do not count as sparse.
    """
    if manifest.family in registry.names("family"):
        family = registry.find("family", manifest.family)
        return *family.label(manifest.tasks), family.SPARSE
    for name, value in manifest.tasks.items():
        if value.ndim == 1:
            return name, value, False
    return "task", np.arange(sum(map(len, manifest.split.values())), dtype=float), False
