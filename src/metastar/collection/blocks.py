"""Blocks: data sets of some tasks of a larger one, made by processes of their own, and their merge.

XLA rounds a program of ten learners and one of forty differently, and such a difference grows. So a
collection is cut only between groups of `collect.tasks_at_once` tasks, each of which is a program
of its own in one process too: the merged blocks are bitwise what one process makes.

The blocks of a data set DIR are `DIR.blocks/<first>-<last>`. In its own manifest a block is a data
set whose tasks, counted from 0, are all for training; the merge gives them numbers and split.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from metastar.data import layout, store
from metastar.data.manifest import Manifest
from metastar.errors import UserError, brief

_NAME = re.compile(r"(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,8})")


def folder_of(directory: Path) -> Path:
    """Where the blocks of a data set are."""
    return directory.with_name(f"{directory.name}.blocks")


def groups(num_tasks: int, tasks_at_once: int) -> list[range]:
    """The tasks of each program; `tasks_at_once` of 0 makes all of them in one."""
    size = tasks_at_once or num_tasks
    return [range(at, min(at + size, num_tasks)) for at in range(0, num_tasks, size)]


def parse(text: str, num_tasks: int, tasks_at_once: int) -> range:
    """The tasks of a block from "first-last", both of them in it.

    Raises:
        UserError: it is no such text, names tasks that there are not, or cuts a group.
    """
    found = _NAME.fullmatch(text)
    if not found or int(found[1]) > int(found[2]):
        raise UserError(f"--tasks is {brief(text)} but must be FIRST-LAST, for instance 0-9")
    ids = range(int(found[1]), int(found[2]) + 1)
    if ids.stop > num_tasks:
        raise UserError(f"--tasks is {text}, but the config has the tasks 0 to {num_tasks - 1}")
    if not tasks_at_once:
        raise UserError(
            "a block needs collect.tasks_at_once, since collect.tasks_at_once=0 makes all tasks in "
            "one program; set it, for instance --config.collect.tasks_at_once=10, for all blocks, "
            "their merge and the runs"
        )
    ends = {0, num_tasks, *range(0, num_tasks, tasks_at_once)}
    if not {ids.start, ids.stop} <= ends:
        raise UserError(
            f"--tasks is {text}, which cuts a group of collect.tasks_at_once={tasks_at_once}; "
            f"begin at a multiple of {tasks_at_once}, and end before one or with the last task"
        )
    return ids


def expect_apart(behavior: str, together: str | None) -> None:
    """Raises `UserError` if a behaviour makes all tasks together, for the reason given."""
    if together:
        raise UserError(
            f"behavior {behavior!r} makes all tasks in one program ({together}), so that none can "
            "be made alone; leave out --tasks and collect.tasks_at_once"
        )


def name_of(ids: range) -> str:
    """The name of a block's folder."""
    return f"{ids.start}-{ids.stop - 1}"


def origin_of(ids: range) -> str:
    """What the manifest of a block has as its origin."""
    return f"metastar collect --tasks={name_of(ids)}"


def is_block(manifest: Manifest) -> bool:
    """Whether a data set is a block of another one."""
    return manifest.origin.startswith("metastar collect --tasks=")


def found(directory: Path) -> dict[Path, range]:
    """The blocks of a data set that there are, in the order of their tasks.

    Raises:
        UserError: among them is something else, or two of them share tasks.
    """
    folder, blocks = folder_of(directory), {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):  # of a process that is making one
            continue
        match = _NAME.fullmatch(path.name)
        if not match or not path.is_dir():
            raise UserError(f"{path} is no block of tasks such as {folder / '0-9'}; move it away")
        blocks[path] = range(int(match[1]), int(match[2]) + 1)
    expect_disjoint(blocks)
    return dict(sorted(blocks.items(), key=lambda item: item[1].start))


def expect_disjoint(blocks: Mapping[Path, range]) -> None:
    """Raises `UserError` if two blocks share tasks."""
    in_order = sorted(blocks.items(), key=lambda item: item[1].start)
    for (path, ids), (other, after) in pairwise(in_order):
        if after.start < ids.stop:
            raise UserError(f"the blocks {path} and {other} share tasks; delete one of them")


def expect_all(directory: Path, blocks: Mapping[Path, range], num_tasks: int) -> None:
    """Raises `UserError` unless these blocks are of all tasks and of no other."""
    folder, at = folder_of(directory), 0
    for path, ids in [*blocks.items(), (folder, range(num_tasks, num_tasks))]:
        if ids.start > at:
            lacking = name_of(range(at, min(ids.start, num_tasks)))
            raise UserError(
                f"{folder} has no block of tasks {lacking}; make it with `metastar collect "
                f"--tasks={lacking}`, or delete the folder to make all tasks in one process"
            )
        if ids.stop > num_tasks:
            raise UserError(
                f"block {path} goes beyond the tasks of the config, 0 to {num_tasks - 1}; set the "
                "numbers of tasks back, or move the block away"
            )
        at = ids.stop


def cut(manifest: Manifest, fields: Mapping[str, np.ndarray], ids: range) -> tuple:
    """The manifest and the fields of a block, from those that `collect` makes of its tasks."""
    manifest = manifest._replace(
        tasks={name: value[ids.start : ids.stop] for name, value in manifest.tasks.items()},
        split={"train": list(range(len(ids)))},
        origin=origin_of(ids),
    )
    return manifest, {**fields, "collector": fields["collector"] - ids.start}


def merged(
    blocks: Mapping[Path, range], whole: Manifest, check: Callable[[Path, Manifest], None]
) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Joins blocks of all tasks of a data set.

    Args:
        blocks: of all tasks, in their order.
        whole: the data set's manifest as far as its config tells it.
        check: raises `UserError` for a block of another config.

    Raises:
        UserError: a block is damaged, or of other tasks, another config or other versions.
    """
    manifests = {path: store.read_manifest(path) for path in blocks}
    first, one = next(iter(manifests.items()))
    for path, own in manifests.items():
        _expect_place(path, own, whole, blocks[path])
        check(path, own)
        if own.versions != one.versions:
            name = min(dict(own.versions.items() ^ one.versions.items()))
            raise UserError(
                f"block {first} was made with {name} {one.versions.get(name)}, but {path} with "
                f"{own.versions.get(name)}; make one of them again with the version of the other"
            )
    verified = {path: store.verify(path, own).fields for path, own in manifests.items()}
    parts = [_numbered(fields, blocks[path]) for path, fields in verified.items()]
    known = {name: getattr(one, name) for name in ("policies", "stages", "versions")}
    return whole._replace(**known), layout.merge(parts)


def _expect_place(path: Path, own: Manifest, whole: Manifest, ids: range) -> None:
    """Raises `UserError` unless a block holds the tasks that its folder is named after."""
    drawn = {name: value[ids.start : ids.stop] for name, value in whole.tasks.items()}
    same = own.tasks.keys() == drawn.keys() and all(
        np.array_equal(own.tasks[name], value) for name, value in drawn.items()
    )
    if own.origin != origin_of(ids) or not same:
        raise UserError(
            f"{path} does not hold tasks {name_of(ids)} of the config; its origin is "
            f"{brief(own.origin)}; move it away, and make the block again"
        )


def _numbered(fields: Mapping[str, np.ndarray], ids: range) -> dict[str, np.ndarray]:
    return {**fields, "collector": fields["collector"] + np.int32(ids.start)}
