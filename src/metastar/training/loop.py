"""The training loop: chunks on the device, and everything else between them."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar import signals
from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.training import (
    checkpoint,
    compilation,
    hosts,
    memory,
    nonfinite,
    placement,
    pretrained,
    workdir,
)
from metastar.training import chunk as chunks
from metastar.training.chunk import LoopState, end_phase, make_chunk
from metastar.training.host import Host, between
from metastar.training.metrics import MetricsWriter, Progress
from metastar.training.placement import Placement
from metastar.training.runs import Run, stack, unstack
from metastar.types import Array, Method, Phase, TaskData, TrainState

DEFAULTS = {
    "updates": Field(200_000, "[0, inf)", "updates of the last phase; each family has its number"),
    "chunk": Field(200, COUNT, "updates per jitted call, row of metrics and progress line"),
    "validate_every": Field(50, COUNT, "updates between two validation losses of a phase"),
    "eval_every": Field(10_000, COUNT, "updates between two evaluations in the last phase"),
    "checkpoint_every": Field(10_000, COUNT, "updates between two checkpoints"),
    "keep_checkpoints": Field(3, COUNT, "checkpoints that are kept, the newest ones"),
    "pretrained": Field(
        "", "", "workdir of the same runs whose pretraining is used; empty: none", before=""
    ),
    "precision": Field(
        "float32",
        ("float32", "tensorfloat32", "bfloat16"),
        "of matrix products (training/precision.py)",
        before="float32",
    ),
    "lr_decay": Field(
        "none", ("none", "cosine"), "of learning rates, per phase: none, or warm-up and cosine to 0"
    ),
    "deterministic": Field(False, "", "accelerators: ask XLA for bitwise reproducible kernels"),
}


class Fit(NamedTuple):
    """Finished runs."""

    loops: list[LoopState]  # of each; one with `bad_step` >= 0 stopped there
    wall_seconds: float  # over all resumes, as far as checkpoints know
    traces: dict[str, int]  # how often this process traced the update of each phase


class _Program(NamedTuple):
    """What does not change between two chunks."""

    runs: Sequence[Run]
    train: ConfigDict
    data: TaskData
    run_key: Array  # [], or [S] of several runs, as the leaves of `hp`
    hp: Any
    place: Placement


def fit(
    runs: Sequence[Run],
    method: Method,
    data: TaskData,
    hps: Sequence[Any],
    evaluate_fn: Callable[[TrainState, int], dict] | None = None,
    tell: Callable[..., None] = lambda state, **changes: None,
    begin: Callable[[], None] = lambda: None,
    place: Placement = placement.ONE,
) -> Fit:
    """Takes runs through a method's phases together, from their newest good common checkpoint.

    Without one they begin at the first update, or behind the pretraining of `train.pretrained`.

    Between two chunks it writes a row of metrics, evaluates (every `train.eval_every` updates, in
    the last phase, where the agent learns) and saves a checkpoint (every `train.checkpoint_every`
    updates, at the end of a phase, and on SIGTERM or SIGINT), all of it for each run in its own
    workdir. Runs that were killed and started again end bitwise where uninterrupted ones end:
    chunks end at steps that depend on the config alone. A run that meets a number that is not
    finite stays as it was before, and the others go on.

    Args:
        runs: their configs differ in `seed` and in what `hps` holds; their workdirs hold these and
            the spec.
        method: what to train.
        data: the training tasks.
        hps: `Method.hp` of each run.
        evaluate_fn: `(state, step) -> {name: number}` of one run; enters its row of metrics as
            `eval/<name>`. `state` is the method's.
        tell: as `status.told` yields it; receives "compiling" and "training".
        begin: called once before the first update, when it is known that the runs fit into memory.
        place: the devices; that of an earlier call may have been another. Of several processes all
            call this, and the writer alone writes and evaluates.

    Raises:
        UserError: the runs do not fit into memory together; `place` does not divide the tasks;
            every run met a number that is not finite; processes see different folders; as
            `pretrained.restore` and `checkpoint.restore_common`.
        Stopped: by SIGTERM or SIGINT, after the checkpoint is saved; a second one ends the process
            at once.
    """
    started = time.perf_counter()
    train, num = runs[0].cfg.train, len(runs)
    keys = [jax.random.split(jax.random.key(run.cfg.seed)) for run in runs]
    init_key, run_key = stack([key[0] for key in keys]), stack([key[1] for key in keys])
    hp = stack([jax.tree.map(jnp.asarray, hp) for hp in hps])
    run_key, hp = placement.put((run_key, hp), place.state)
    program = _Program(runs, train, placement.put(data, place.data), run_key, hp, place)
    traces: Counter = Counter({phase.name: 0 for phase in method.phases})
    total = sum(phase.num_updates for phase in method.phases)

    progress = Progress(total, time.perf_counter, num)

    folders = [run.workdir / "checkpoints" for run in runs]
    identities = [workdir.identity(run.workdir) for run in runs]
    loop, step, spent = _begun(runs, method, folders, identities, init_key)
    started -= spent
    if step:
        progress.say(f"resuming after update {step}")
    hosts.expect_alike(
        (step, identities),
        f"the processes do not see the same checkpoints in {runs[0].workdir}; all need a workdir "
        "that they share",
    )
    _expect_one_alive(runs, np.atleast_1d(loop.bad_step))
    loop = placement.put(loop, place.state)
    tell("compiling", step=step, updates=total)
    compiled = _compile(program, method.phases, loop, step, traces, progress)
    begin()
    hosts.wait("compiled")  # those that meet for the first time in a program must not come late

    with contextlib.ExitStack() as context:
        received = context.enter_context(signals.caught(held=True))
        context.enter_context(contextlib.closing(progress))
        written = runs if place.is_writer else []
        writers = [
            context.enter_context(contextlib.closing(MetricsWriter(run.workdir, step)))
            for run in written
        ]
        folders = folders[: len(written)]
        host = Host(
            *(train, writers, folders, identities, evaluate_fn, progress, tell, started, received),
            untrained=_before_the_last(method.phases),
        )
        start = 0
        for phase in method.phases:
            end = start + phase.num_updates
            if step < end:
                tell("training", phase=phase.name, step=step)
                loop = _run_phase(program, phase, start, compiled[phase.name], loop, step, host)
                step = end
            start = end
    return Fit(unstack(loop, num), time.perf_counter() - started, dict(traces))


def _begun(
    runs: Sequence[Run],
    method: Method,
    folders: Sequence[Path],
    identities: Sequence[workdir.Identity],
    init_key: Array,
) -> tuple[LoopState, int, float]:
    """The state that runs go on from, the update that it is after, and the seconds spent so far."""
    shapes = chunks.abstract(method)
    restored = checkpoint.restore_common(folders, shapes, identities)
    restored = restored or pretrained.restore(runs, method.phases, shapes)
    if not restored:
        return chunks.init(method, init_key), 0, 0.0
    loops, steps, metas = zip(*restored)
    return stack(loops), steps[0], metas[0]["wall_seconds"]


def _compile(
    program: _Program,
    phases: Sequence[Phase],
    loop: LoopState,
    step: int,
    traces: Counter,
    progress: Progress,
) -> dict[str, Callable]:
    """Compiles the chunk of every phase that has updates left after `step`, by its name.

    All of them before the first update, so that runs which do not fit into memory do not start.
    """
    compiled, start = {}, 0
    for phase in phases:
        if max(step, start) < start + phase.num_updates:
            length, num = min(program.train.chunk, phase.num_updates), len(program.runs)
            every, place = program.train.validate_every, program.place
            chunk = make_chunk(phase, start, length, every, traces, num, place)
            first = np.int32(0)
            arguments = (loop, program.data, program.run_key, program.hp, first, first)
            made = compilation.compiled(chunk, *arguments)
            progress.say(f"compiled {phase.name} in {made.seconds:.1f} s")
            memory.expect_fit(made.peak_bytes, loop, program.data, num, place.num_here)
            compiled[phase.name] = made.run
        start += phase.num_updates
    return compiled


def _run_phase(
    program: _Program,
    phase: Phase,
    start: int,
    compiled: Callable,
    loop: LoopState,
    step: int,
    host: Host,
) -> LoopState:
    """Runs a phase that begins at `start` from `step` to its end with its compiled chunk."""
    fixed, end = (program.data, program.run_key, program.hp), start + phase.num_updates
    while step < end:
        num = chunk_end(step, end, program.train) - step
        began = time.perf_counter()
        loop, metrics = compiled(loop, *fixed, np.int32(step), np.int32(num))
        metrics, bad_steps, best = _fetched(loop, metrics)
        metrics = {name: value[:num] for name, value in metrics.items()}
        rate = num / (time.perf_counter() - began)
        metrics = {name: value.reshape(num, -1) for name, value in metrics.items()}  # [num, S]
        if (bad_steps >= step).any():
            _report_bad_steps(program, phase, start, loop, bad_steps, step, metrics, host.progress)
        step += num
        row = {"step": step, "phase": phase.name, "updates_per_second": rate}
        rows = [row | own for own in _own_parts(phase, bad_steps, best, metrics)]
        if step == end:
            loop = placement.put(end_phase(loop, len(program.runs)), program.place.state)
        between(host, phase, loop, rows, end)
    return loop


def _fetched(loop: LoopState, metrics: dict[str, Array]) -> tuple:
    """On the host: metrics [length] or [length, S], bad steps [S], lowest validation losses [S]."""
    best = loop.best["loss"] if loop.best else ()
    metrics, bad_steps, best = placement.on_one((metrics, loop.bad_step, best))
    metrics = {name: np.asarray(value) for name, value in metrics.items()}
    return metrics, np.atleast_1d(bad_steps), np.atleast_1d(best)


def _own_parts(
    phase: Phase, bad_steps: np.ndarray, best: np.ndarray, metrics: dict[str, np.ndarray]
) -> list[dict]:
    """What each run's row says of a chunk: means of metrics [num, S], or where the run stopped."""
    parts = []
    for k, bad_step in enumerate(bad_steps):
        if bad_step >= 0:
            parts.append({"bad_step": int(bad_step)})
            continue
        part = {name: float(value[:, k].mean(dtype=np.float64)) for name, value in metrics.items()}
        if phase.validate is not None:
            part |= {"best_validation_loss": float(best[k])} if np.isfinite(best[k]) else {}
        parts.append(part)
    return parts


def _report_bad_steps(
    program: _Program,
    phase: Phase,
    start: int,
    loop: LoopState,
    bad_steps: np.ndarray,
    first: int,
    metrics: dict[str, np.ndarray],
    progress: Progress,
) -> None:
    """Saves and names what stopped a run in the chunk that began at `first`; raises if all have."""
    num = len(program.runs)
    loops, run_keys, hps = (unstack(tree, num) for tree in (loop, program.run_key, program.hp))
    data = placement.on_one(program.data)
    stopped = np.flatnonzero(bad_steps >= first) if program.place.is_writer else []
    for k in stopped:
        own = (loops[k], run_keys[k], hps[k])
        values = {name: value[bad_steps[k] - first, k] for name, value in metrics.items()}
        sentence = nonfinite.save_batch(
            program.runs[k].workdir, phase, start, own[0], data, *own[1:], values
        )
        if num == 1:
            raise UserError(sentence)
        progress.say(sentence)
    _expect_one_alive(program.runs, bad_steps)


def _before_the_last(phases: Sequence[Phase]) -> int:
    """Updates before the last phase that has some."""
    numbers = [phase.num_updates for phase in phases if phase.num_updates]
    return sum(numbers[:-1])


def _expect_one_alive(runs: Sequence[Run], bad_steps: np.ndarray) -> None:
    """Raises `UserError` if no run has anything left to train."""
    if (bad_steps >= 0).all():
        raise UserError(nonfinite.summary([run.workdir for run in runs], bad_steps))


def chunk_end(step: int, end: int, train: ConfigDict) -> int:
    """Returns where the chunk that begins at `step` ends: a function of the config alone.

    Chunks end at the multiples of `chunk`, `eval_every` and `checkpoint_every`, and at the end of
    the phase.
    """
    periods = (train.chunk, train.eval_every, train.checkpoint_every)
    return min(end, *((step // period + 1) * period for period in periods))
