"""The main job: data, training, evaluation, report, from one config into one workdir (floor F7)."""

import os
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from metastar import (
    checkpoint,
    collect,
    config,
    evaluate,
    files,
    plan,
    registry,
    report,
    results,
)
from metastar.chunk import abstract_state
from metastar.data import store
from metastar.errors import UserError
from metastar.fit import fit
from metastar.types import DataSpec, Method, TaskData, TrainState
from metastar.workdir import opened, read_config, read_spec, write_spec

COMMAND = "command.txt"


class Restored(NamedTuple):
    """A run as its newest good checkpoint has it."""

    cfg: FrozenConfigDict
    spec: DataSpec
    method: Method
    state: TrainState
    step: int
    meta: dict  # wall_seconds


def train(
    cfg: ConfigDict,
    workdir: str | Path | None,
    dry_run: bool = False,
    command: str = "metastar.train.train(cfg, workdir)",
) -> None:
    """Runs a config to its end, from wherever an earlier call with this workdir stopped.

    Makes the data set unless it is there, trains, evaluates on held-out tasks, writes
    `results.json`, `report.md` and figures, and prints the summary. A complete run is left as it
    is. With `deterministic` set, call this before anything else uses a device.

    Args:
        cfg: the config.
        workdir: the folder of the run; a dry run needs none.
        dry_run: only prints parameters, memory, FLOPs per update and expected minutes.
        command: what the report shows as the origin of the run; kept from the first call.

    Raises:
        UserError: as `config.validate`, `workdir.opened`, `collect.ensure` and `fit.fit`.
        SystemExit: a signal stopped the run after a checkpoint.
    """
    cfg = FrozenConfigDict(cfg)
    config.validate(cfg)
    if cfg.deterministic:
        _ask_for_determinism()
    if dry_run:
        print(plan.describe(cfg, *_plan_data(cfg)))
        return
    with opened(cfg, workdir) as path:
        if not (path / COMMAND).exists():
            files.write_atomic(path / COMMAND, command + "\n")
        if _is_complete(cfg, path):
            print(f"the run in {path} is complete")
        else:
            _run(cfg, path)
        if not (path / "report.md").exists():
            report.write(path)
        print(report.summary(path))


def restore(workdir: str | Path) -> Restored:
    """Rebuilds a run from its workdir alone; raises `UserError` if there is no good checkpoint."""
    path = Path(workdir).resolve()
    cfg, spec = FrozenConfigDict(read_config(path)), read_spec(path)
    method = _method(cfg, spec)
    found = checkpoint.restore_latest(path / "checkpoints", abstract_state(method))
    if found is None:
        raise UserError(
            f"workdir {path} holds no good checkpoint yet; run `metastar train` with it first"
        )
    return Restored(cfg, spec, method, *found)


def evaluate_workdir(workdir: str | Path, explore: str = "") -> None:
    """Evaluates the newest good checkpoint of a run again; rewrites its results and report.

    `explore` is that of `evaluate.final`. Raises `UserError` as `restore` and `evaluate.final` do.
    """
    run = restore(workdir)
    with opened(run.cfg, workdir) as path:
        _evaluate(run, path, collect.ensure(run.cfg), explore)
        report.write(path)


def _run(cfg: FrozenConfigDict, path: Path) -> None:
    if cfg.eval.oracle:
        results.read(cfg.eval.oracle)  # a wrong folder is an error now, not after the training
    directory = collect.ensure(cfg)
    data = store.load(directory, "train", cfg)
    spec = store.data_spec(store.read_manifest(directory), data)
    write_spec(path, spec)
    method = _method(cfg, spec)
    curve = evaluate.make_curve(cfg, method, directory)
    key = jax.random.key(evaluate.SEED)  # the same starts and windows at every point of the curve
    done = fit(cfg, path, method, data, lambda state, step: curve(method.export(state), key))
    step, meta = int(done.state.step), {"wall_seconds": done.wall_seconds}
    _evaluate(Restored(cfg, spec, method, done.state, step, meta), path, directory)
    report.write(path)


def _evaluate(run: Restored, path: Path, directory: Path, explore: str = "") -> None:
    meta = {
        **run.meta,
        "updates": run.step,
        "command": (path / COMMAND).read_text().strip(),
        "params_sha256": checkpoint.params_sha256(run.state.params),
    }
    params = run.method.export(run.state)
    evaluate.final(run.cfg, run.method, params, path, directory, meta, explore)


def _is_complete(cfg: FrozenConfigDict, path: Path) -> bool:
    """Whether the results are those of the last update; `metastar evaluate` writes earlier ones."""
    if not (path / results.FILE).exists() or not (path / "spec.json").exists():
        return False
    total = sum(phase.num_updates for phase in _method(cfg, read_spec(path)).phases)
    return results.read(path)["updates"] == total


def _method(cfg: FrozenConfigDict, spec: DataSpec) -> Method:
    return registry.find("method", cfg.method).make(cfg, spec)


def _plan_data(cfg: FrozenConfigDict) -> tuple[Method, TaskData, str]:
    """The method on its data set, or on a few random episodes where that is not made yet."""
    if (collect.directory_of(cfg) / store.MANIFEST).exists():
        directory = collect.ensure(cfg)
        data, manifest = store.load(directory, "train", cfg), store.read_manifest(directory)
        note = f"data set {directory}"
    else:
        data, manifest = plan.sample_data(cfg)
        note = "not made yet: 4 random episodes per task in its place"
    return _method(cfg, store.data_spec(manifest, data)), data, note


def _ask_for_determinism() -> None:
    """XLA reads its flags when the first device is used: GPUs then add in a fixed order."""
    flag = "--xla_gpu_deterministic_ops=true"
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
