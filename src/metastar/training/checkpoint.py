"""Checkpoints that can be verified: orbax data with a checksum per leaf.

A checkpoint is the folder `<directory>/<step>`: `state/` is orbax's, `record.json` holds the step,
free `meta`, the digests of the run's config and spec, and the SHA-256, shape and dtype of every
leaf. It is written under a temporary name, forced to disk and renamed, so it is whole or absent.
The checksums find what is damaged later, since orbax restores a flipped bit without complaint. An
intact checkpoint beside another config or spec is not damage but an error: with these the same
parameters would be another agent.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from metastar import files
from metastar.errors import UserError
from metastar.files import Each, MayLack
from metastar.training import memory, old_states
from metastar.training.workdir import Identity

_RECORD = "record.json"
_FORM = {
    "step": int,
    "meta": {"wall_seconds": MayLack(float)},
    "digests": MayLack(Each(str)),  # lacking in runs of the first format
    "leaves": Each({"sha256": str, "shape": [int], "dtype": str}),
}
_TEMPORARY = "tmp."
_STEP = re.compile("0|[1-9][0-9]{0,17}")  # the name of a checkpoint's folder
_ROOM = 2**20  # bytes of the many small files around the leaves


class _Damaged(Exception):
    """What is wrong with one checkpoint, in a few words."""


def save(directory: Path, step: int, state: Any, meta: dict, digests: dict[str, str]) -> None:
    """Writes checkpoint `step`; one of the same step is replaced.

    Also removes what an interrupted `save` left behind.

    Args:
        directory: the folder of all checkpoints of a run; made if missing.
        step: updates done.
        state: a pytree of non-empty arrays.
        meta: anything JSON can hold.
        digests: of the run, as its `Identity` has them.

    Raises:
        UserError: it cannot be written; the older ones are as they were.
    """
    directory = Path(directory).resolve()  # orbax takes absolute paths only
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover)
    temporary, final = directory / f"{_TEMPORARY}{step}", directory / str(step)
    with _writing(temporary, final):
        _expect_room(directory, state)
        with _checkpointer() as checkpointer:
            # As numbers of the host: orbax refuses arrays of one process among several.
            checkpointer.save(temporary / "state", jax.device_get(state))
            checkpointer.wait_until_finished()
        record = {"step": step, "meta": meta, "digests": digests, "leaves": _leaf_table(state)}
        files.write_json(temporary / _RECORD, record)
        files.sync_tree(temporary)
        if final.exists():
            final.rename(directory / f"{_TEMPORARY}replaced.{step}")
        temporary.rename(final)
        files.sync(directory)
    for leftover in directory.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover)


def _checkpointer() -> ocp.StandardCheckpointer:
    """Orbax's, of this process alone: of several one writes, and each reads for itself."""
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=str(own)
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _expect_room(directory: Path, state: Any) -> None:
    """Raises `OSError` on a full disk, which orbax would meet in many threads at once."""
    disk = shutil.disk_usage(directory)
    if disk.total and disk.free < memory.size(state) + _ROOM:  # some file systems know no size
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _writing(temporary: Path, final: Path) -> Iterator[None]:
    """Turns what the system refuses into one sentence, and gives back the room that was taken.

    Orbax raises such a refusal as a `ValueError` of TensorStore, after its threads logged it with
    tracebacks.
    """
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:
        _silence_closed_loops()
        shutil.rmtree(temporary, ignore_errors=True)
        code = re.search(r"os_error_code='(\d+)'", str(error))
        reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None)
        if not reason:
            raise
        raise UserError(
            f"cannot write checkpoint {final} ({reason}); make room, and the same command resumes "
            "from the one before"
        ) from error
    finally:
        logger.setLevel(level)


def _silence_closed_loops() -> None:
    """TensorStore's threads go on for a while and tell a loop that orbax has closed by then."""
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _hook


def _hook(unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def prune(directory: Path, step: int, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints up to `step`."""
    for old in [s for s in steps(directory) if s <= step][:-keep]:
        shutil.rmtree(Path(directory) / str(old))


def restore_latest(
    directory: Path, abstract_state: Any, run: Identity, say: Callable[[str], None] = print
) -> tuple[Any, int, dict] | None:
    """Returns (state, step, meta) of the newest checkpoint whose every leaf verifies, or None.

    Arguments and errors are those of `restore_common`.
    """
    found = restore_common([directory], abstract_state, [run], say)
    return found and found[0]


def restore_common(
    directories: Sequence[Path],
    abstract_state: Any,
    runs: Sequence[Identity],
    say: Callable[[str], None] = print,
    only: int | None = None,
) -> list[tuple[Any, int, dict]] | None:
    """Returns (state, step, meta) of each run at the newest step whose every leaf verifies in all.

    Says one sentence for each damaged checkpoint that makes it go back further. Only reads.

    Args:
        directories: for each run the folder of all its checkpoints; may be missing.
        abstract_state: the pytree expected, of `jax.ShapeDtypeStruct` (or arrays); a leaf without
            a sharding goes to the default device.
        runs: of each directory, the run that its checkpoints must be of.
        say: receives the sentences.
        only: the one step that will do; any without it.

    Returns:
        None if there is no such step.

    Raises:
        UserError: the newest good checkpoint holds a state of another structure, i.e. was written
            by another version of the code; or it was written by another run than expected.
    """
    directories = [Path(directory).resolve() for directory in directories]
    common = set.intersection(*(set(steps(directory)) for directory in directories))
    common = common if only is None else common & {only}
    for step in sorted(common, reverse=True):
        found = []
        for directory, run in zip(directories, runs):
            path = directory / str(step)
            try:
                found.append(_restore(path, step, abstract_state, run))
            except _Damaged as error:
                say(f"checkpoint {path} is damaged ({error}); going back before it")
                break
        else:
            return found
    return None


def restore(
    directory: Path,
    step: int,
    abstract_state: Any,
    run: Identity,
    say: Callable[[str], None] = print,
) -> Any | None:
    """Returns the state of checkpoint `step`, or None, with a sentence said, if it is damaged.

    Arguments and errors are those of `restore_common`.
    """
    path = Path(directory).resolve() / str(step)
    try:
        return _restore(path, step, abstract_state, run)[0]
    except _Damaged as error:
        say(f"checkpoint {path} is damaged ({error}); going on without it")
        return None


def steps(directory: Path) -> list[int]:
    """Steps of the checkpoints in a folder, damaged ones included, in increasing order."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if _STEP.fullmatch(path.name))


def params_sha256(params: Any) -> str:
    """SHA-256 over path, dtype, shape and bytes of every leaf, in alphabetical order of paths."""
    digest = hashlib.sha256()
    for path, leaf in sorted(_leaf_table(params).items()):
        digest.update(f"{path} {leaf['dtype']} {leaf['shape']} {leaf['sha256']}\n".encode())
    return digest.hexdigest()


def _restore(path: Path, step: int, abstract_state: Any, run: Identity) -> tuple[Any, int, dict]:
    record = _read_record(path / _RECORD)
    if record["step"] != step:
        raise _Damaged(f"its record is of step {record['step']}")
    _check_identity(path, record, run)
    if run.format <= old_states.LAST_FORMAT:
        return _restore_old(path, record, abstract_state), step, record["meta"]
    _check_fits(path, record["leaves"], dict(_named_leaves(abstract_state)), record["leaves"])
    with _reading(path), _checkpointer() as checkpointer:
        state = checkpointer.restore(path / "state", jax.tree.map(_placed, abstract_state))
    _check_sums(_leaf_table(state), record["leaves"])
    return state, step, record["meta"]


def _restore_old(path: Path, record: dict, abstract_state: Any) -> Any:
    """What is needed of a checkpoint of an older format."""
    needed = old_states.expected(abstract_state)
    _check_fits(path, record["leaves"], needed, needed)
    with _reading(path):
        leaves = old_states.read(path / "state")
    table = {name: _described(leaf) for name, leaf in leaves.items()}
    _check_sums({name: table.get(name) for name in needed}, record["leaves"])
    return old_states.assemble(abstract_state, leaves)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Damage surfaces as whatever parser meets it first."""
    try:
        yield
    except Exception as error:
        _silence_closed_loops()
        raise _Damaged(f"unreadable: {type(error).__name__}") from None


def _check_sums(found: dict[str, dict], stored: dict[str, dict]) -> None:
    for name, leaf in found.items():
        if leaf != stored[name]:
            raise _Damaged(f"the checksum of {name} differs")


def _read_record(path: Path) -> dict:
    try:
        record = files.read_json(path, "")
        files.expect(record, _FORM, path, "")
        return record
    except UserError:
        raise _Damaged(f"{_RECORD} is missing or not as it was written") from None


def _check_identity(path: Path, record: dict, run: Identity) -> None:
    """An intact record of another run is not damage but a mistake."""
    folder = path.parent.parent
    if "digests" not in record:
        if run.format == 1:
            return
        raise UserError(
            f"checkpoint {path} does not say which run wrote it, but {folder} is a run of format "
            f"{run.format}, whose checkpoints do; delete it, or restore the run from a copy"
        )
    for name, digest in run.digests.items():
        if record["digests"].get(name) != digest:
            raise UserError(
                f"{name}.json of {folder} is not the one that checkpoint {path.name} was written "
                "with; restore that file, or delete the checkpoint if it is of another run"
            )


def _check_fits(path: Path, leaves: dict, needed: dict[str, Any], names: Iterable[str]) -> None:
    """An intact record of other leaves is other code or other data; `names` are those compared."""
    expected = {name: _signature(leaf) for name, leaf in needed.items()}
    stored = {name: (tuple(leaf["shape"]), leaf["dtype"]) for name, leaf in leaves.items()}
    for name in sorted(expected.keys() | set(names)):
        if expected.get(name) != stored.get(name):
            raise UserError(
                f"checkpoint {path} does not fit this run: {name} is "
                f"{stored.get(name, 'missing')} there and {expected.get(name, 'missing')} here; "
                "use the data and the code that it was written with, or another workdir"
            )


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding or default)


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _signature(leaf: Any) -> tuple[tuple[int, ...], str]:
    return tuple(leaf.shape), str(leaf.dtype)


def _leaf_table(tree: Any) -> dict[str, dict]:
    """Path -> SHA-256, shape and dtype of every leaf."""
    return {name: _described(leaf) for name, leaf in _named_leaves(jax.device_get(tree))}


def _described(leaf: Any) -> dict:
    array = np.asarray(leaf)
    shape, dtype = _signature(array)
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"sha256": content, "shape": list(shape), "dtype": dtype}
