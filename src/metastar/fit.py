"""The training loop: chunks on the device, and everything else between them (floor F6)."""

import contextlib
import io
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar import checkpoint, files
from metastar.chunk import abstract_state, end_phase, init_state, make_chunk, replay
from metastar.errors import UserError
from metastar.metrics import MetricsWriter, Progress
from metastar.types import Array, Method, Phase, TaskData, TrainState


class Fit(NamedTuple):
    """A finished run."""

    state: TrainState
    wall_seconds: float  # over all resumes, as far as checkpoints know
    traces: dict[str, int]  # how often this process traced the update of each phase


class _Run(NamedTuple):
    """What does not change between two chunks."""

    workdir: Path
    train: ConfigDict
    data: TaskData
    run_key: Array
    hp: Any


def fit(
    cfg: ConfigDict,
    workdir: Path,
    method: Method,
    data: TaskData,
    evaluate_fn: Callable[[TrainState, int], dict] | None = None,
) -> Fit:
    """Runs a method's phases one after the other, from the newest good checkpoint of `workdir`.

    Between two chunks it writes a row of metrics, evaluates (every `train.eval_every` updates) and
    saves a checkpoint (every `train.checkpoint_every` updates, at the end of a phase, and on
    SIGTERM or SIGINT). A run that was killed and started again ends bitwise where an uninterrupted
    one ends: chunks end at steps that depend on the config alone.

    Args:
        cfg: reads `seed` and `train`.
        workdir: an existing folder.
        method: what to train.
        data: the training tasks.
        evaluate_fn: `(state, step) -> {name: number}`; enters the row of metrics as `eval/<name>`.

    Raises:
        UserError: an update gave a number that is not finite.
        SystemExit: 128 + the signal's number, after the checkpoint is saved.
    """
    started = time.perf_counter()
    key_init, run_key = jax.random.split(jax.random.key(cfg.seed))
    restored = checkpoint.restore_latest(workdir / "checkpoints", abstract_state(method))
    state, step, meta = restored or (init_state(method, key_init), 0, {"wall_seconds": 0.0})
    started -= meta["wall_seconds"]

    run = _Run(
        workdir, cfg.train, jax.device_put(data), run_key, jax.tree.map(jnp.asarray, method.hp)
    )
    traces: Counter = Counter({phase.name: 0 for phase in method.phases})
    progress = Progress(sum(phase.num_updates for phase in method.phases), time.perf_counter)
    if restored:
        progress.say(f"resuming after update {step}")

    with contextlib.closing(MetricsWriter(workdir, step)) as writer, _signals() as received:

        def between(phase: Phase, state: TrainState, row: dict, end: int) -> None:
            """The host's work after a chunk; all of it is safe to lose and to repeat."""
            step = row["step"]
            if evaluate_fn is not None and step % cfg.train.eval_every == 0:
                result = evaluate_fn(state, step)
                row |= {f"eval/{name}": float(value) for name, value in result.items()}
            writer.write(row)
            stop_by = received[:1]  # looked at once: a signal may arrive at any line below
            progress.show(phase.name, step, row["updates_per_second"], end - step)
            if step == end or step % cfg.train.checkpoint_every == 0 or stop_by:
                writer.sync()
                meta = {"wall_seconds": time.perf_counter() - started}
                checkpoint.save(
                    workdir / "checkpoints", step, state, meta, cfg.train.keep_checkpoints
                )
            if stop_by:
                progress.say(
                    f"stopped by {stop_by[0].name} after update {step}; the checkpoint is saved, "
                    "and the same command resumes from it"
                )
                raise SystemExit(128 + stop_by[0])

        start = 0
        for phase in method.phases:
            end = start + phase.num_updates
            if step < end:
                state = _run_phase(run, phase, state, start, step, traces, progress, between)
                step = end
            start = end
    return Fit(state, time.perf_counter() - started, dict(traces))


def _run_phase(
    run: _Run,
    phase: Phase,
    state: TrainState,
    start: int,
    step: int,
    traces: Counter,
    progress: Progress,
    between: Callable[[Phase, TrainState, dict, int], None],
) -> TrainState:
    """Runs the updates `step`, ..., of a phase that began at `start`, to its end."""
    end = start + phase.num_updates
    length = min(run.train.chunk, phase.num_updates)
    chunk = make_chunk(phase, start, length, run.train.validate_every, traces)
    integer = state.step.dtype.type
    began = time.perf_counter()
    arguments = (state, run.data, run.run_key, run.hp, integer(step), integer(0))
    compiled = chunk.lower(*arguments).compile()
    progress.say(f"compiled {phase.name} in {time.perf_counter() - began:.1f} s")
    while step < end:
        num = chunk_end(step, end, run.train) - step
        began = time.perf_counter()
        state, metrics = compiled(state, run.data, run.run_key, run.hp, integer(step), integer(num))
        metrics = {name: np.asarray(value)[:num] for name, value in metrics.items()}
        rate = num / (time.perf_counter() - began)
        if int(state.extra["bad_step"]) >= 0:
            _stop_at_bad_step(run, phase, state, step, metrics)
        step += num
        row = {"step": step, "phase": phase.name, "updates_per_second": rate}
        row |= {name: float(value.mean(dtype=np.float64)) for name, value in metrics.items()}
        if np.isfinite(best := _best_loss(phase, state)):
            row["best_validation_loss"] = best
        if step == end:
            state = end_phase(state)
        between(phase, state, row, end)
    return state


def _best_loss(phase: Phase, state: TrainState) -> float:
    return np.inf if phase.validate is None else float(state.extra["best"]["loss"])


def chunk_end(step: int, end: int, train: ConfigDict) -> int:
    """Returns where the chunk that begins at `step` ends: a function of the config alone.

    Chunks end at the multiples of `chunk`, `eval_every` and `checkpoint_every`, and at the end of
    the phase.
    """
    periods = (train.chunk, train.eval_every, train.checkpoint_every)
    return min(end, *((step // period + 1) * period for period in periods))


def _stop_at_bad_step(
    run: _Run, phase: Phase, state: TrainState, first: int, metrics: dict[str, np.ndarray]
) -> None:
    """Saves the batch of the bad update and raises the sentence that names what went wrong."""
    step = int(state.extra["bad_step"])
    batch, params = replay(phase, state, run.data, run.run_key, run.hp, step)
    terms = [name for name, value in metrics.items() if not np.isfinite(value[step - first])]
    terms = terms or [
        "params" + jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if not np.isfinite(leaf).all()
    ]
    content = io.BytesIO()
    arrays = jax.tree_util.tree_leaves_with_path(batch)
    np.savez(content, **{jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in arrays})
    file = run.workdir / f"bad_batch_{step}.npz"
    files.write_atomic(file, content.getvalue())
    good = checkpoint.steps(run.workdir / "checkpoints")
    kept = f"the newest checkpoint is of update {good[-1]}" if good else "no checkpoint exists yet"
    raise UserError(
        f"{', '.join(terms) or 'a parameter'} is not finite in update {step} ({phase.name}); "
        f"its batch is in {file} and {kept}; look at the batch or lower the learning rate"
    )


@contextlib.contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Collects a SIGTERM or SIGINT instead of dying of it; a second one kills as usual."""
    received: list[signal.Signals] = []

    def handle(number, frame):
        del frame
        received.append(signal.Signals(number))
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may install handlers
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
