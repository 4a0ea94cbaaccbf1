"""Data sets on disk: one `.npy` file per field and `manifest.json`, checked whenever they are read.

The fields are those of `layout.py`: concatenated transitions. The manifest holds what arrays cannot
say: the sizes of the environment, task parameters in full precision, the split into training and
test tasks, the names of policies and stages, what made the data, and the SHA-256 of every file and
of itself. Data sets of the formats before, with episodes as equal blocks, are read as well.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from metastar import files
from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, SEED, Field
from metastar.data import checks, choose, layout
from metastar.data.manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    read_manifest,
    to_json,
)
from metastar.envs.make import profile_of, task_shapes
from metastar.errors import UserError, did_you_mean, explain
from metastar.types import DataSpec, TaskData

DEFAULTS = {
    "preset": Field("", "", "entry of the family's `DATA` with its settings; empty: none"),
    "dir": Field("", "", "the folder of the data set; empty: data/<family>_<data preset>"),
    "train_tasks": Field(30, "[2, inf)", "training tasks of a data set"),
    "test_tasks": Field(10, COUNT, "held-out tasks of a data set"),
    "ood_tasks": Field(
        0,
        NOT_NEGATIVE,
        "held-out tasks of each kind out of distribution; above 0 the law of the training tasks "
        "leaves gaps for them",
        before=0,
    ),
    "task_seed": Field(0, SEED, "of the task parameters"),
    "policies": Field(
        "",
        "",
        "behaviour policies to draw from, separated by commas; empty: all but cross-task ones",
        before="",
    ),
    "stages": Field("", "", "stages to draw from, separated by commas; empty: all", before=""),
    "fraction": Field(
        1.0,
        RATE,
        "of these episodes of each training task, evenly spaced in the order recorded",
        before=1.0,
    ),
    "validation_tasks": Field(
        0,
        NOT_NEGATIVE,
        "this many training tasks are withheld and take the place of the test "
        "tasks: settings are chosen with some, results are reported with 0",
    ),
    "validation_choice": Field(
        "last",
        ("last", "spread", "outermost"),
        "which: the last ones; some spread evenly over all, for tasks that come in an order; or "
        "those whose parameters are farthest from the mean, so that agents are asked beyond what "
        "they learned",
        before="last",
    ),
}


def check(cfg: ConfigDict) -> None:
    """Raises `UserError` if less than two training tasks are left."""
    if (left := cfg.train_tasks - cfg.validation_tasks) < 2:
        raise UserError(
            f"data.validation_tasks withholds all but {left} of the {cfg.train_tasks} training "
            "tasks but must leave at least 2"
        )


OOD = checks.PARTS[2:]  # held-out tasks between and beyond the training tasks


class DataSet(NamedTuple):
    """A data set that was opened and verified."""

    path: Path
    manifest: Manifest
    fields: dict[str, np.ndarray]  # those of `layout.py`; memory-mapped if of this format


class Tasks(NamedTuple):
    """All tasks of a run, each of them on the device once."""

    manifest: Manifest
    split: dict[str, list[int]]  # that of `choose.split_ids`
    train: TaskData
    heldout: TaskData  # all others, in the order of `split`

    @property
    def parts(self) -> tuple[TaskData, TaskData]:
        """The tasks in the order of `split`."""
        return self.train, self.heldout


def save(directory: str | Path, manifest: Manifest, fields: dict[str, np.ndarray]) -> None:
    """Writes a data set: whole, or not at all if the process dies at any moment.

    Files go to a hidden folder beside `directory`, which is renamed at the end. What an earlier
    process left there is removed.

    Args:
        directory: must not exist, or be empty.
        manifest: its `files` are filled in.
        fields: an array for each name of `layout.FIELDS` and perhaps of `layout.OPTIONAL`;
            converted to the types given there. `layout.concatenate` makes them of equal blocks.

    Raises:
        UserError: the data break a rule that `verify` checks, or cannot be written there.
    """
    directory = Path(directory).absolute()
    kinds = {n: kind for n, kind in layout.OPTIONAL.items() if n in fields} | layout.FIELDS
    fields = {name: np.asarray(fields[name], dtype) for name, (dtype, _) in kinds.items()}
    checks.check(directory, manifest, fields)
    temporary = directory.with_name(f".{directory.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        stored = {}
        for name, value in fields.items():
            file = temporary / f"{name}.npy"
            np.save(file, value, allow_pickle=False)
            stored[name] = {
                "sha256": _sha256(file),
                "shape": list(value.shape),
                "dtype": str(value.dtype),
            }
        files.write_json(temporary / MANIFEST, to_json(manifest._replace(files=stored)))
        files.sync_tree(temporary)
        temporary.rename(directory)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = error.strerror or "no room for all of it"  # NumPy counts bytes and says no more
        raise UserError(
            f"cannot write the data set {directory} ({reason}); make room, or "
            "choose an empty or new folder with --config.data.dir"
        ) from error


def verify(path: str | Path, manifest: Manifest | None = None) -> DataSet:
    """Opens a data set, reads all of it and checks it.

    Args:
        path: folder of the data set.
        manifest: what `read_manifest` gives, if it was called before.

    Raises:
        UserError: a file is missing, its SHA-256 differs or it holds no array; or a shape does not
            fit the manifest; a value is not finite or absurdly large; an action lies outside
            [-1, 1]; a length, policy or stage is out of range; a task has no transition; the split
            is not one.
    """
    manifest, fields = manifest or read_manifest(path), {}
    of_blocks = manifest.format < FORMAT
    names = layout.BLOCKS if of_blocks else layout.FIELDS
    for name in (*names, *(n for n in layout.OPTIONAL if n in manifest.files)):
        file = Path(path) / f"{name}.npy"
        if name not in manifest.files or not file.is_file():
            raise UserError(f"data set {path} has no field {name!r} ({file.name}); {checks.FIX}")
        if _sha256(file) != manifest.files[name]["sha256"]:
            raise UserError(f"{file} is damaged: its SHA-256 is not the manifest's; {checks.FIX}")
        fields[name] = _mapped(file)
    if of_blocks:
        checks.check_blocks(path, manifest, fields)
        fields = layout.concatenate(fields)
        fields = {name: fields[name].astype(kind) for name, (kind, _) in layout.FIELDS.items()}
    checks.check(path, manifest, fields)
    return DataSet(Path(path), manifest, fields)


def tasks_of(data: DataSet, cfg: ConfigDict) -> Tasks:
    """Loads all tasks of a run; arguments and errors are those of `load`."""
    split = choose.split_ids(data.manifest, cfg)
    heldout = [name for name in split if name != "train"]
    return Tasks(data.manifest, split, load(data, "train", cfg), load(data, heldout, cfg))


def load(data: DataSet, split: str | Sequence[str], cfg: ConfigDict) -> TaskData:
    """Loads the tasks of one side of a split, or of several, and no other.

    Draws see the episodes of the policies `cfg.data.policies` and stages `cfg.data.stages` only, of
    training tasks `cfg.data.fraction` of them.

    Args:
        data: the data set.
        split: a name of `choose.split_ids` or several, or "all" for all of them in its order.
        cfg: the run's config; `family` and `data` are used.

    Raises:
        UserError: the data are of another family, or lack the split, a policy or a
            stage, or a task has no episode of them.
    """
    path, manifest, fields = data
    check_family(path, manifest, cfg)
    parts = choose.split_ids(manifest, cfg)
    names = [split] if isinstance(split, str) else split
    names = list(parts) if names == ["all"] else names
    for name in names:
        if name not in parts:
            hint = did_you_mean(name, (*parts, "all"))
            raise UserError(f"data set {path} has no split {name!r}{hint}")
    ids = np.concatenate([parts[name] for name in names])
    chosen = choose.episodes(data, parts["train"], cfg)
    data = layout.on_device(fields, manifest.tasks, ids, chosen)
    if not (count := np.asarray(data.count)).all():
        raise UserError(
            f"task {ids[np.argmin(count)]} in {path} has no episode of the policies and stages "
            "that data.policies, data.stages and data.fraction ask for; ask for more of them"
        )
    return data


def check_family(path: str | Path, manifest: Manifest, cfg: ConfigDict) -> None:
    """Raises `UserError` unless a data set and its task parameters are of the config's family."""
    if manifest.family != cfg.family:
        raise UserError(
            f"data set {path} is of family {manifest.family!r}, but the config asks for "
            f"{cfg.family!r}; name another folder with --config.data.dir"
        )
    have, want = manifest.task_shapes, task_shapes(cfg.family, profile_of(cfg))
    if want is not None and have != want:
        raise UserError(
            f"data set {path} has task parameters {have}, but family {cfg.family!r} has {want}; "
            "name another folder with --config.data.dir"
        )


def restrict(data: TaskData, policy: int, stage: int) -> TaskData:
    """The same data with only the episodes of one policy at one stage to draw from.

    `visible`, `index` and `count` change, nothing else, and no shape does. A task without such an
    episode has count 0 and gives windows without a valid step.
    """
    return layout.show(
        data, (np.asarray(data.policy) == policy) & (np.asarray(data.stage) == stage)
    )


def data_spec(manifest: Manifest, train_data: TaskData) -> DataSpec:
    """What a method must know of the data; the statistics are of the observations draws can see."""
    rows = np.arange(train_data.reward.shape[1]) + np.asarray(train_data.episode)  # [N, P]
    obs = np.take_along_axis(np.asarray(train_data.obs), rows[..., None], 1)
    obs = layout.transitions_seen(train_data, obs).astype(float)
    reward = layout.transitions_seen(train_data, train_data.reward).astype(float)
    std = obs.std(0)
    return DataSpec(
        family=manifest.family,
        obs_dim=obs.shape[-1],
        action_dim=train_data.action.shape[-1],
        task_dim=sum(int(np.prod(value.shape[1:])) for value in manifest.tasks.values()),
        num_tasks=len(train_data.count),
        max_episode_steps=manifest.env_spec.max_episode_steps,
        obs_mean=tuple(obs.mean(0).tolist()),
        obs_std=tuple(np.where(std > 1e-6, std, 1.0).tolist()),
        reward_std=float(reward.std()),
        num_policies=len(manifest.policies),
        num_stages=len(manifest.stages),
        num_behaviors=_num_behaviors(train_data),
    )


def _num_behaviors(data: TaskData) -> int:
    """How many sources (pairs of policy and stage) the episodes have that draws may use."""
    seen = np.asarray(data.visible) & (np.asarray(data.length) > 0)
    return len(set(zip(*(np.asarray(tag)[seen].tolist() for tag in (data.policy, data.stage)))))


def _mapped(file: Path) -> np.ndarray:
    """Maps an array of a file as `np.save` writes it; raises `UserError` if it is none."""
    try:
        with np.errstate(over="ignore"):  # sizes that a header may claim
            array = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # what is wrong surfaces as whatever meets it first
        raise UserError(
            f"{file} is not an array as numpy.save writes it ({explain(error)}); {checks.FIX}"
        ) from None
    if array.offset + array.nbytes != file.stat().st_size:
        raise UserError(f"{file} holds more than the array that it describes; {checks.FIX}")
    return array


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
