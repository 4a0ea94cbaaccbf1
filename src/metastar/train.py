"""The whole job of a config: data, training, evaluation and report, into its workdir."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from metastar import __version__, config, files
from metastar.collection import collect
from metastar.data import choose, store
from metastar.errors import UserError
from metastar.evaluation import evaluate, likelihood, results
from metastar.tools.report import compare, report
from metastar.training import (
    checkpoint,
    hosts,
    memory,
    nonfinite,
    placement,
    plan,
    pretrained,
    runs,
    status,
)
from metastar.training.chunk import params_of
from metastar.training.loop import fit
from metastar.training.placement import Placement
from metastar.training.restore import Restored, restore
from metastar.training.runs import Run
from metastar.training.workdir import (
    COMMAND,
    expect_trainable,
    held,
    identity,
    read_config,
    read_spec,
    write_spec,
)
from metastar.types import DataSpec, Method, TaskData


def train(
    cfg: ConfigDict,
    workdir: str | Path | None,
    dry_run: bool = False,
    command: str = "metastar.train.train(cfg, workdir)",
) -> None:
    """Runs a config to its end, from wherever an earlier call with this workdir stopped.

    Makes the data set unless it is there, trains, evaluates on held-out tasks, writes
    `results.json`, `report.md` and figures, and prints the summary. The runs of a config with
    several seeds or swept values train in one program, each into a workdir of its own below this
    one (`runs.expand`), and are then compared. A complete run is left as it is. With
    `deterministic` set, call this before anything else uses a device. In each of several processes
    (`hosts.joined`) it must be called alike; the first one writes.

    Args:
        cfg: the config.
        workdir: the folder of the run; a dry run needs none.
        dry_run: only prints parameters, memory, FLOPs per update and expected minutes.
        command: what the report shows as the origin of the run; a resumed run keeps its first one.

    Raises:
        UserError: as `config.validate`, `placement.make`, `workdir.opened`, `collect.data_set` and
            `loop.fit`; some runs met a number that is not finite, after the others are complete.
        Stopped: a signal stopped the run; what it trained is in a checkpoint.
    """
    cfg = FrozenConfigDict(cfg)
    config.validate(cfg)
    if cfg.train.deterministic:
        _ask_for_determinism()
    asked = runs.expand(cfg, Path())
    place = placement.make(cfg.mesh, len(asked))
    if dry_run:
        own = asked[0].cfg
        print(plan.describe(own, *_plan_data(own), len(asked), place))
        return
    hosts.expect_alike(
        (__version__, jax.__version__, config.flatten(cfg)),
        "the processes were started with different configs or meshes, or have different versions "
        "of metastar or JAX; start all with the same command, but for --process",
    )
    _expect_apart(cfg, Path(workdir))
    if not place.is_writer:
        _follow(cfg, Path(workdir).resolve(), place)
        return
    with runs.opened(cfg, workdir) as (path, found), status.told(path) as tell:
        stopped = None
        if all(_is_complete(run) for run in found):
            hosts.wait("prepared")
            print(f"the run in {path} is complete")
        else:
            stopped = _train_all(path, found, command, tell, place)
        complete = [run.workdir for run in found if _is_complete(run)]
        for folder in complete:
            if not (folder / report.FILE).exists():
                tell("reporting", **_outcome(complete))
                report.write(folder)
        if complete == [path]:
            print(report.summary(path))
        elif complete:
            shown = [str(Path(workdir) / folder.relative_to(path)) for folder in complete]
            print(compare.compare(shown, workdir))
        if stopped:
            raise UserError(stopped)
        tell("complete", **_outcome(complete))


def _expect_apart(cfg: ConfigDict, workdir: Path) -> None:
    """Raises `UserError` if a workdir would be part of the data set, which is written only once."""
    data = collect.directory_of(cfg)
    if data.resolve() in (folder := workdir.resolve(), *folder.parents):
        raise UserError(
            f"workdir {workdir} lies in the folder of the data set, {data}; give another --workdir "
            "or --config.data.dir"
        )


def evaluate_workdir(
    workdir: str | Path,
    strategies: Sequence[str] = (),
    oracle: str | None = None,
    protocols: Sequence[str] = (),
    inference: str | None = None,
) -> None:
    """Evaluates the newest good checkpoint of a run again; rewrites its results and report.

    Args:
        workdir: of the run.
        strategies: of purposeful exploration, each of which adds its protocol (`explored`).
        oracle: the workdir of an oracle that takes the place of the config's `eval.oracle` here.
        protocols: to evaluate besides those of the config's `eval.protocols`.
        inference: takes the place of the config's `inference.choice`.

    Raises:
        UserError: as `restore`, `workdir.held` and `evaluate.make_final`.
    """
    read_config(workdir)  # that there is a run is asked before anything is written
    with held(workdir) as path:
        run = restore(path)  # not while a run that is going on deletes checkpoints
        if oracle is not None:
            cfg = ConfigDict(run.cfg.to_dict())
            cfg.eval.oracle = str(oracle)
            run = run._replace(cfg=FrozenConfigDict(cfg))
        if inference is not None:
            run = run._replace(cfg=likelihood.chosen(run.cfg, inference))
        tasks = store.tasks_of(collect.data_set(run.cfg), run.cfg)
        also = [config.change(run.cfg, {"eval.protocols": name}) for name in protocols]
        also += exploring(run.cfg, strategies)
        final = evaluate.make_final(run.cfg, run.method, tasks, also)
        _evaluate(run, path, final)
        report.write(path)


def exploring(cfg: ConfigDict, strategies: Sequence[str]) -> list[ConfigDict]:
    """The config with one protocol only, purposeful exploration, for each of the strategies.

    Raises `UserError` if there is no such strategy.
    """
    changes = [{"eval.protocols": "explored", "eval.strategy": name} for name in strategies]
    return [config.change(cfg, change) for change in changes]


def _train_all(
    path: Path, found: list[Run], command: str, tell: Callable, place: Placement
) -> str | None:
    """Trains and evaluates runs; returns a sentence about those that stopped early, if any did."""
    cfg = found[0].cfg
    tell("collecting")
    for folder in {path, *(run.workdir for run in found)}:
        expect_trainable(folder)
    # A wrong folder is an error now, not after the training.
    results.read_oracle(cfg.eval.oracle, cfg.family)
    if not (collect.directory_of(cfg) / store.MANIFEST).exists():
        runs.make_method(cfg, plan.expected_spec(cfg))  # so is a part that cannot be made
    tasks, spec, method, hps = _loaded(cfg, found)
    choose.expect_windows(tasks.train, method.context, cfg)
    if not (path / COMMAND).exists():  # a wrong source leaves the folder free for another config
        pretrained.check(found, method.phases)
    memory.expect_possible(method, tasks.train, len(found))
    for run in found:
        write_spec(run.workdir, spec)
    hosts.wait("prepared")
    curve = evaluate.make_curve(cfg, method, tasks)
    final = evaluate.make_final(cfg, method, tasks)
    key = jax.random.key(evaluate.SEED)  # the same starts and windows at every point of the curve
    owners = [identity(run.workdir) for run in found]

    def evaluate_fn(state, step):
        del step
        return curve(method.export(state), key)

    def begin():
        """From here on the folders are those of this config."""
        for folder in {path, *(run.workdir for run in found)}:
            if not (folder / COMMAND).exists():
                files.write_atomic(folder / COMMAND, command + "\n")

    done = fit(found, method, tasks.train, hps, evaluate_fn, tell, begin, place)
    tell("evaluating")
    meta = {"wall_seconds": done.wall_seconds}
    step = sum(phase.num_updates for phase in method.phases)
    for run, loop, owner in zip(found, done.loops, owners):
        if loop.bad_step < 0 and not _is_complete(run):
            restored = Restored(run.cfg, spec, method, loop.state, step, meta, owner.digests)
            tell("evaluating")
            _evaluate(restored, run.workdir, final)
            tell("reporting")
            report.write(run.workdir)
    bad_steps = [int(loop.bad_step) for loop in done.loops]
    return nonfinite.summary([run.workdir for run in found], bad_steps)


def _loaded(cfg: ConfigDict, found: list[Run]) -> tuple[store.Tasks, DataSpec, Method, list]:
    """The data set, what methods know of it, the method, and `Method.hp` of each run."""
    tasks = store.tasks_of(collect.data_set(cfg), cfg)
    spec = store.data_spec(tasks.manifest, tasks.train)
    hps = [runs.make_method(run.cfg, spec).hp for run in found]
    return tasks, spec, runs.make_method(cfg, spec), hps


def _follow(cfg: ConfigDict, path: Path, place: Placement) -> None:
    """What a process does that is not the writer: it trains along, and writes nothing."""
    hosts.wait("prepared")
    found = runs.expand(cfg, path)
    if all(_is_complete(run) for run in found):
        return
    if not (collect.directory_of(cfg) / store.MANIFEST).exists():
        raise UserError(
            f"process {jax.process_index()} does not see the data set that process 0 made in "
            f"{collect.directory_of(cfg)}; all processes need a folder that they share"
        )
    tasks, _, method, hps = _loaded(found[0].cfg, found)
    fit(found, method, tasks.train, hps, place=place)


def _outcome(folders: list[Path]) -> dict:
    """What the status of complete runs says of them: updates, and mean returns by protocol."""
    all_results = [results.read(folder) for folder in folders]
    updates = all_results[0]["updates"]
    returns = [
        {
            name: block["mean"]
            for name, block in own["protocols"].items()
            if block["mean"] is not None
        }
        for own in all_results
    ]
    return {"step": updates, "updates": updates, "returns": status.mean_returns(returns)}


def _evaluate(run: Restored, path: Path, final: Callable) -> None:
    meta = {
        **run.meta,
        "updates": run.step,
        "command": (path / COMMAND).read_text(errors="replace").strip(),
        "params_sha256": checkpoint.params_sha256(params_of(run.state)),
        "digests": run.digests,
    }
    final(run.cfg, run.method.export(run.state), path, meta)


def _is_complete(run: Run) -> bool:
    """Whether the results are those of the last update; `metastar evaluate` writes earlier ones."""
    if not all((run.workdir / name).exists() for name in (results.FILE, "spec.json")):
        return False
    total = sum(
        phase.num_updates for phase in runs.make_method(run.cfg, read_spec(run.workdir)).phases
    )
    return results.read(run.workdir).get("updates") == total


def _plan_data(cfg: FrozenConfigDict) -> tuple[Method, TaskData, str]:
    """The method on its data set, or on a few random episodes where that is not made yet."""
    if (collect.directory_of(cfg) / store.MANIFEST).exists():
        found = collect.data_set(cfg)
        data, manifest = store.load(found, "train", cfg), found.manifest
        note = f"data set {found.path}"
    else:
        data, manifest = plan.sample_data(cfg)
        note = "not made yet: 4 random episodes per task in its place"
    return runs.make_method(cfg, store.data_spec(manifest, data)), data, note


def _ask_for_determinism() -> None:
    """Sets the XLA flag for deterministic GPU kernels; XLA reads it when a device is first used."""
    flag = "--xla_gpu_deterministic_ops=true"
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
