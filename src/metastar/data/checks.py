"""What the content of a data set must satisfy, when it is written and whenever it is read."""

from pathlib import Path
from typing import Any

import numpy as np

from metastar.envs.make import spec_of
from metastar.errors import UserError

FIELDS = {  # name: type and axes
    "obs": ("float32", ("N", "E", "T+1", "O")),
    "action": ("float32", ("N", "E", "T", "A")),
    "reward": ("float32", ("N", "E", "T")),
    "done": ("bool", ("N", "E", "T")),
    "length": ("int32", ("N", "E")),
    "policy": ("int32", ("N", "E")),
    "stage": ("int32", ("N", "E")),
    "collector": ("int32", ("N", "E")),  # the task whose learner acted; on disk only
}
FIX = "restore it from a copy, or delete the folder and run `metastar collect`"


def check(path: str | Path, manifest: Any, fields: dict[str, np.ndarray]) -> None:
    """Raises `UserError` at the first rule that the content of a data set breaks.

    Args:
        path: its folder, for the sentence.
        manifest: a `store.Manifest`.
        fields: an array for each name of `FIELDS`.
    """
    spec = spec_of(manifest.family, manifest.config.get("env", {}).get("profile", "default"))
    steps = spec.max_episode_steps
    num_tasks = {len(value) for value in manifest.tasks.values()}
    if len(num_tasks) != 1 or not all(np.isfinite(v).all() for v in manifest.tasks.values()):
        raise UserError(f"the task parameters in {path} are not finite or not of one length")
    axes = {"N": num_tasks.pop(), "T": steps, "T+1": steps + 1}
    axes |= {"O": spec.obs_dim, "A": spec.action_dim, "E": np.shape(fields["length"])[-1]}
    for name, (dtype, names) in FIELDS.items():
        value, shape = fields[name], tuple(axes[n] for n in names)
        if value.shape != shape or value.dtype != dtype:
            raise UserError(
                f"{name} in {path} is {value.dtype} {value.shape}, but {dtype} {shape} is needed "
                f"for these tasks of family {manifest.family!r} ([{', '.join(names)}])"
            )
        bad = ~np.isfinite(value)
        if bad.any():
            task = int(np.argwhere(bad)[0, 0])
            raise UserError(f"{name} in {path} holds a NaN or an infinity, in task {task}; {FIX}")
    limits = {
        "action": (-1, 1),
        "length": (0, steps),
        "policy": (0, len(manifest.policies) - 1),
        "stage": (0, len(manifest.stages) - 1),
        "collector": (0, axes["N"] - 1),
    }
    for name, (low, high) in limits.items():
        outside = (fields[name] < low) | (fields[name] > high)
        if outside.any():
            task = int(np.argwhere(outside)[0, 0])
            raise UserError(f"{name} in {path} leaves [{low}, {high}] in task {task}; {FIX}")
    empty = np.flatnonzero(fields["length"].sum(1) == 0)
    if len(empty):
        raise UserError(f"task {empty[0]} in {path} has no episode; every task needs at least one")
    ids = [i for part in manifest.split.values() for i in part]
    if sorted(ids) != list(range(axes["N"])) or not manifest.split["train"]:
        raise UserError(f"the split in {path} must name each of {axes['N']} tasks exactly once")
