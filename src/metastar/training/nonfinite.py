"""What is saved and reported when a run meets a number that is not finite."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metastar import files
from metastar.training import checkpoint
from metastar.training.chunk import LoopState, replay
from metastar.types import Array, Phase, TaskData


def save_batch(
    workdir: Path,
    phase: Phase,
    start: int,
    loop: LoopState,
    data: TaskData,
    run_key: Array,
    hp: Any,
    metrics: dict[str, np.ndarray],
) -> str:
    """Saves the batch of the update that gave such a number; returns a sentence that names it.

    Args:
        workdir: of the run.
        phase: of the update `loop.bad_step`.
        start: the step at which it begins.
        loop: the run's, from before that update.
        data: the training tasks.
        run_key: the run's.
        hp: the run's.
        metrics: [] of that update.
    """
    step = int(loop.bad_step)
    batch, params = replay(phase, start, loop.state, data, run_key, hp, step)
    terms = [name for name, value in metrics.items() if not np.isfinite(value)]
    terms = terms or [
        "params" + jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if not np.isfinite(leaf).all()
    ]
    content = io.BytesIO()
    arrays = jax.tree_util.tree_leaves_with_path(batch)
    np.savez(content, **{jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in arrays})
    file = workdir / f"bad_batch_{step}.npz"
    files.write_atomic(file, content.getvalue())
    good = checkpoint.steps(workdir / "checkpoints")
    kept = f"the newest checkpoint is of update {good[-1]}" if good else "no checkpoint exists yet"
    return (
        f"{', '.join(terms) or 'a parameter'} is not finite in update {step} ({phase.name}); "
        f"its batch is in {file} and {kept}; look at the batch or lower the learning rate"
    )


def summary(workdirs: Sequence[Path], bad_steps: Sequence[int]) -> str | None:
    """Names the runs that stopped at such a number, by their `bad_step`; None if there is none."""
    names = [f"{path} in update {step}" for path, step in zip(workdirs, bad_steps) if step >= 0]
    if not names:
        return None
    return (
        f"{len(names)} of {len(workdirs)} runs met a number that is not finite and stopped there: "
        f"{', '.join(names)}; look at the batches in bad_batch_*.npz or lower the learning rate"
    )
