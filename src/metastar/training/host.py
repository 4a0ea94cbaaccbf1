"""What the host does between two chunks; all of it is safe to lose and to repeat."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from metastar.errors import Stopped
from metastar.training import checkpoint, hosts, status
from metastar.training.chunk import LoopState
from metastar.training.metrics import MetricsWriter, Progress
from metastar.training.runs import unstack
from metastar.training.workdir import Identity
from metastar.types import Phase, TrainState


class Host(NamedTuple):
    """What it has to do it with; sequences have one entry of each run.

    Where another process writes there are no writers, no folders and nothing to evaluate.
    """

    train: ConfigDict
    writers: Sequence[MetricsWriter]
    folders: Sequence[Path]  # of checkpoints
    identities: Sequence[Identity]
    evaluate_fn: Callable[[TrainState, int], dict] | None
    progress: Progress
    tell: Callable[..., None]  # of `status.told`
    started: float  # by `time.perf_counter`, earlier by what earlier processes took
    received: Sequence[signal.Signals]  # of `signals.caught`
    untrained: int  # updates before the first of the agent, which comes last: nothing to evaluate


def between(host: Host, phase: Phase, loop: LoopState, rows: list[dict], end: int) -> None:
    """Evaluates, writes a row of metrics and a checkpoint, as far as it is time for them.

    A row says how many seconds the runs have taken before its evaluation, over all resumes.

    Args:
        host: what it needs.
        phase: of the chunk that is done.
        loop: all runs, as they are now.
        rows: of metrics, one of each run.
        end: the step at which the phase ends.

    Raises:
        Stopped: a signal was received; the checkpoint is saved.
        UserError: as `checkpoint.save`.
    """
    train, step = host.train, rows[0]["step"]
    rows = [{**row, "seconds": time.perf_counter() - host.started} for row in rows]
    if step % train.eval_every == 0 and step > host.untrained:
        owns = unstack(loop, len(rows))
        if host.evaluate_fn is not None:
            _evaluate(host.evaluate_fn, rows, owns)
        hosts.wait(f"evaluated after update {step}")
    for writer, row in zip(host.writers, rows):
        writer.write(row)
    stop_by = hosts.agreed(host.received)  # looked at once: one may arrive at any line below
    rate = rows[0]["updates_per_second"]
    host.progress.show(phase.name, step, rate, end - step)
    host.tell("training", step=step, updates_per_second=rate, **_newest_returns(rows))
    if step == end or step % train.checkpoint_every == 0 or stop_by:
        meta = {"wall_seconds": time.perf_counter() - host.started}
        parts = zip(host.writers, host.folders, unstack(loop, len(rows)), host.identities)
        for writer, folder, own, owner in parts:
            writer.sync()
            checkpoint.save(folder, step, own, meta, owner.digests)
        for folder in host.folders:  # only now: until here the older ones were the common ones
            checkpoint.prune(folder, step, train.keep_checkpoints)
        hosts.wait(f"saved after update {step}")
    if stop_by:
        name = signal.Signals(stop_by).name
        raise Stopped(
            stop_by,
            f"stopped by {name} after update {step}; the checkpoint is saved, and the same command "
            "resumes from it",
        )


def _evaluate(evaluate_fn: Callable, rows: list[dict], loops: list[LoopState]) -> None:
    """Adds to each run's row what its evaluation gives, unless the run has stopped."""
    for row, own in zip(rows, loops):
        result = {} if "bad_step" in row else evaluate_fn(own.state, rows[0]["step"])
        row |= {f"eval/{name}": float(value) for name, value in result.items()}


def _newest_returns(rows: list[dict]) -> dict:
    """What the status says of the evaluations in the rows of a chunk; nothing if there are none."""
    curves = [{k: x for k, x in row.items() if k.startswith("eval/")} for row in rows]
    alive = [curve for curve, row in zip(curves, rows) if "bad_step" not in row]
    return {"returns": status.mean_returns(alive)} if any(alive) else {}
