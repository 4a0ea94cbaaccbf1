"""A finished pretraining from which other runs start, so that it is computed once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metastar import config
from metastar.errors import UserError
from metastar.training import checkpoint, workdir
from metastar.training.runs import Run
from metastar.types import Phase

# Fields that may differ from the run that pretrained: a pretraining does not depend on them.
_FREE = (
    "agent.",
    "eval.",
    "imagine.",
    "inference.",
    "num_seeds",
    "preset",
    "sampler.batch_size",
    "sampler.meta_batch",
    "train.checkpoint_every",
    "train.chunk",
    "train.eval_every",
    "train.keep_checkpoints",
    "train.pretrained",
    "train.updates",
    "world_model.code_noise",
    "world_model.every",
    "world_model.lr",
)
_SHAPES = ".hidden"  # except these: initial parameters depend on the sizes of an agent


def restore(
    runs: Sequence[Run], phases: Sequence[Phase], abstract_state: Any
) -> list[tuple[Any, int, dict]] | None:
    """Returns (state, step, meta) at the end of the pretraining that `train.pretrained` names.

    It names the workdir of a lone run, or the common workdir of as many runs as here. A run that
    starts so ends as it would have with its own pretraining, and its time includes that one's.

    Args:
        runs: those to begin.
        phases: of their method; the first is the pretraining.
        abstract_state: as `checkpoint.restore_common` takes it.

    Returns:
        None if the config names no such workdir.

    Raises:
        UserError: as `check`, or the checkpoint of the pretraining's end is damaged or was
            written by another run than the one in that workdir.
    """
    folders = check(runs, phases)
    if not folders:
        return None
    owners = [workdir.identity(folder.parent) for folder in folders]
    found = checkpoint.restore_common(folders, abstract_state, owners, only=phases[0].num_updates)
    if found is None:
        raise _without_end(runs, phases)
    return found


def check(runs: Sequence[Run], phases: Sequence[Phase]) -> list[Path]:
    """Returns the checkpoint folders that `restore` reads, one of each run, or none.

    Raises:
        UserError: the method has no pretraining, the workdir holds other runs, such of an older
            format or such whose pretraining was another, or no checkpoint of its end.
    """
    named = runs[0].cfg.train.pretrained
    if not named:
        return []
    where = f"train.pretrained={named!r}"
    if len(phases) < 2 or not phases[0].num_updates:
        raise UserError(f"{where}, but this run has no pretraining; leave train.pretrained empty")
    workdirs = _workdirs(Path(named), where, len(runs))
    for folder, run in zip(workdirs, runs):
        workdir.expect_trainable(folder)
        _expect_alike(folder, run, where)
    folders = [folder / "checkpoints" for folder in workdirs]
    if not all(phases[0].num_updates in checkpoint.steps(folder) for folder in folders):
        raise _without_end(runs, phases)
    return folders


def _without_end(runs: Sequence[Run], phases: Sequence[Phase]) -> UserError:
    return UserError(
        f"train.pretrained={runs[0].cfg.train.pretrained!r} has no good checkpoint of update "
        f"{phases[0].num_updates}, the end of the pretraining; train that run so far, with a "
        "train.keep_checkpoints that keeps it"
    )


def _workdirs(path: Path, where: str, num: int) -> list[Path]:
    """The workdirs of the runs in `path`, which must be `num`."""
    lone = [path] if (path / "checkpoints").exists() else []
    several = [path / workdir.RUNS / str(k) for k in checkpoint.steps(path / workdir.RUNS)]
    found = several or lone
    if len(found) != num:
        raise UserError(f"{where} holds {len(found)} trained runs, and this config asks for {num}")
    return found


def _expect_alike(folder: Path, run: Run, where: str) -> None:
    """Raises `UserError` if the pretraining of `run` would not be that of the run in `folder`."""
    there, here = config.flatten(workdir.read_config(folder)), config.flatten(run.cfg)
    for name in sorted(there.keys() | here.keys()):
        free = name.startswith(_FREE) and not name.endswith(_SHAPES)
        if not free and repr(there.get(name)) != repr(here.get(name)):
            raise UserError(
                f"{where} holds a run with {name} = {there.get(name)!r}, and this one has "
                f"{here.get(name)!r}; give another run, the old value, or none to pretrain here"
            )
