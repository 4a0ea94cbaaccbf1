"""What the content of a data set must satisfy, when it is written and whenever it is read."""

from pathlib import Path
from typing import Any

import numpy as np

from metastar.data import layout
from metastar.errors import UserError, did_you_mean

PARTS = ("train", "test", "ood_moderate", "ood_extreme")  # of a split
LARGEST = 1e15  # of a value: sums of squares must not overflow 32-bit floats
FIX = "restore it from a copy, or delete the folder and run `metastar collect`"


def check(path: str | Path, manifest: Any, fields: dict[str, np.ndarray]) -> None:
    """Raises `UserError` at the first rule that the content of a data set breaks.

    All sizes are those that the manifest names: no family needs to be known.

    Args:
        path: its folder, for the sentence.
        manifest: a `store.Manifest`.
        fields: an array for each name of `layout.FIELDS`, and perhaps of `layout.OPTIONAL`.
    """
    spec = manifest.env_spec
    parameters = manifest.tasks.values()
    num_tasks = {len(value) for value in parameters} or {len(fields["episodes"])}
    if len(num_tasks) != 1 or not all(np.isfinite(v).all() for v in parameters):
        raise UserError(f"the task parameters in {path} are not finite or not of one length")
    if any(np.abs(v).max(initial=0) > LARGEST for v in parameters):
        raise UserError(f"a task parameter in {path} is larger than {LARGEST:g}; scale it")
    axes = {"N": num_tasks.pop(), "O": spec.obs_dim, "A": spec.action_dim}
    kinds = layout.FIELDS | layout.OPTIONAL

    def expect_shape(name: str) -> None:
        _expect_shape(path, spec, name, fields[name], kinds[name], axes)

    def expect_within(name: str, low: int, high: int, first: np.ndarray) -> None:
        outside = (fields[name] < low) | (fields[name] > high)
        if outside.any():
            task = _task_of(outside, first)
            raise UserError(f"{name} in {path} leaves [{low}, {high}] in task {task}; {FIX}")

    # First what says where everything else is.
    expect_shape("episodes")
    expect_within("episodes", 0, np.iinfo(np.int32).max, np.arange(axes["N"] + 1))
    axes["E"] = int(fields["episodes"].sum())
    expect_shape("length")
    first = np.concatenate([[0], np.cumsum(fields["episodes"])])
    expect_within("length", 0, spec.max_episode_steps, first)
    start = layout.offsets(fields)
    axes |= {"P": int(start.step[-1]), "P+E": int(start.obs[-1])}
    by_axis = {"N": np.arange(axes["N"] + 1), "E": start.episode, "P": start.step, "P+E": start.obs}
    for name, value in fields.items():
        expect_shape(name)
        if (bad := ~np.isfinite(value)).any():
            task = _task_of(bad, by_axis[kinds[name][1][0]])
            raise UserError(f"{name} in {path} holds a NaN or an infinity, in task {task}; {FIX}")
        if value.dtype.kind == "f" and (large := np.abs(value) > LARGEST).any():
            task = _task_of(large, by_axis[kinds[name][1][0]])
            raise UserError(
                f"{name} in {path} holds {value[large][0]:g} in task {task}, and beyond "
                f"{LARGEST:g} squares overflow 32-bit floats; scale the data"
            )
    expect_within("action", -1, 1, start.step)
    expect_within("policy", 0, len(manifest.policies) - 1, start.episode)
    expect_within("stage", 0, len(manifest.stages) - 1, start.episode)
    expect_within("collector", 0, axes["N"] - 1, start.episode)
    empty = np.flatnonzero(np.diff(start.step) == 0)
    if len(empty):
        raise UserError(f"task {empty[0]} in {path} has no episode; every task needs at least one")
    if unknown := manifest.split.keys() - set(PARTS):
        raise UserError(
            f"the split in {path} names {min(unknown)!r}{did_you_mean(min(unknown), PARTS)}"
        )
    ids = [i for part in manifest.split.values() for i in part]
    if sorted(ids) != list(range(axes["N"])) or not manifest.split.get("train"):
        raise UserError(f"the split in {path} must name each of {axes['N']} tasks exactly once")


def check_blocks(path: str | Path, manifest: Any, blocks: dict[str, np.ndarray]) -> None:
    """Raises `UserError` if an array of a data set of format 1 or 2 has a wrong shape or type."""
    spec, shape = manifest.env_spec, np.shape(blocks["length"])
    axes = {"N": shape[0], "E": shape[-1], "O": spec.obs_dim, "A": spec.action_dim}
    axes |= {"T": spec.max_episode_steps, "T+1": spec.max_episode_steps + 1}
    for name, kind in layout.BLOCKS.items():
        _expect_shape(path, spec, name, blocks[name], kind, axes)


def _expect_shape(path, spec, name: str, value: np.ndarray, kind: tuple, axes: dict) -> None:
    dtype, names = kind
    if value.shape != (shape := tuple(axes[n] for n in names)) or value.dtype != dtype:
        raise UserError(
            f"{name} in {path} is {value.dtype} {value.shape}, but {dtype} {shape} is needed "
            f"for these episodes of {spec.name!r} ([{', '.join(names)}])"
        )


def _task_of(bad: np.ndarray, first: np.ndarray) -> int:
    """The task of the first bad entry, where the rows of task n begin at `first[n]`."""
    return int(np.searchsorted(first, np.argwhere(bad)[0, 0], side="right")) - 1
